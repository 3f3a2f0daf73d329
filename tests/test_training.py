"""The training loop on a tiny cascade: exact resume, safe stops, and what a run leaves behind."""

from __future__ import annotations

import json
import math
import os
import re
import signal
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors.torch import load_file
from skimage.metrics import peak_signal_noise_ratio
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import main
from configs.schema import load_config
from data import build as sets
from data.datasets import Batch, StoredDataset, in_order
from models.build import build, load_model
from models.mmfnet import Fusion, boundary_map
from tests.conftest import ROOT, SMOKE
from tests.hostile.faults import room
from training.validation import PARTS, ROWS, guidance_accuracy, oracle_selection, psnr, validate


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def run(tmp_path, photographs):
    """Call main.py on the tiny config; gives the exit code."""

    def call(name: str, *overrides: str) -> int:
        paths = [f"run={tmp_path / name}", f"data.photographs={photographs}"]
        return main.main([SMOKE, *paths, "device=cpu", *overrides])

    return call


@pytest.mark.parametrize("option", ["--weights=x", "--json=x", "--steps=3"])
def test_options_of_other_tasks_are_refused(run, capsys, option):
    with pytest.raises(SystemExit) as end:
        run("refused", option)
    assert end.value.code == 2 and f"{option.split('=')[0]} is for" in capsys.readouterr().err


def checkpoint(folder: Path) -> dict:
    return torch.load(folder / "latest.pt", weights_only=True)


def flat(state, prefix: str = "") -> dict:
    """Every leaf of a checkpoint by its path."""
    if not isinstance(state, dict | list):
        return {prefix: state}
    items = state.items() if isinstance(state, dict) else enumerate(state)
    leaves = [flat(value, f"{prefix}/{key}") for key, value in items]
    return {path: leaf for part in leaves for path, leaf in part.items()}


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_resume_is_exact(run, tmp_path, optimizer):
    quiet = ["validation.every=0", "train.schedule=paper", "train.weight_decay=0.01"]
    quiet += [f"train.optimizer={optimizer}", "model.initial.args.widths=[16, 16]"]
    assert run("straight", *quiet, "train.steps=6") == 0
    # The first half is part of the same six steps: the schedule depends on their number.
    with pytest.MonkeyPatch.context() as patch:
        interrupt_after(patch, 3)
        assert run("halves", *quiet, "train.steps=6") == 0
    assert checkpoint(tmp_path / "halves")["step"] == 3
    assert run("halves", *quiet, "train.steps=6") == 0
    straight, halves = (flat(checkpoint(tmp_path / name)) for name in ("straight", "halves"))
    assert straight.keys() == halves.keys() and straight["/step"] == 6
    for path, value in straight.items():
        same = torch.equal(value, halves[path]) if torch.is_tensor(value) else value == halves[path]
        assert same, path
    starts = (tmp_path / "halves" / "run.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in starts] == [0, 3]


def test_photographs_that_train_and_validate_are_read_once(run, monkeypatch):
    read = []
    load = sets.Photographs
    monkeypatch.setattr(sets, "Photographs", lambda folder: read.append(folder) or load(folder))
    assert run("run", "train.steps=1") == 0
    assert len(read) == 1


def test_another_optimizer_cannot_take_over(run, tmp_path, capsys):
    first = ["validation.every=0", "train.optimizer=adamw"]
    assert run("run", *first, "train.steps=2") == 0
    before = (tmp_path / "run" / "latest.pt").read_bytes()
    assert run("run", "validation.every=0", "train.optimizer=muon", "train.steps=4") == 2
    assert "train.optimizer was adamw, not muon" in capsys.readouterr().err
    assert (tmp_path / "run" / "latest.pt").read_bytes() == before


def test_sets_without_an_fdb_do_not_hide_the_best(run, tmp_path):
    flat = ["validation.defocus.sharp_everywhere=1", "train.steps=2", "validation.every=2"]
    assert run("run", *flat) == 0
    assert (tmp_path / "run" / "best.safetensors").exists()
    (text,) = (tmp_path / "run" / "validation.jsonl").read_text().splitlines()
    assert json.loads(text, parse_constant=pytest.fail)["fused_band"] is None


def test_the_best_of_other_validation_sets_is_no_measure(run, tmp_path):
    """A score of 1000 dB is out of reach; a checkpoint that does not say is believed."""
    folder, still = tmp_path / "run", ["train.lr=0", "validation.every=2"]
    assert run("run", *still, "train.steps=2") == 0

    def resume_above(score: float, steps: int, *more: str, **state) -> float:
        torch.save(checkpoint(folder) | {"best": score} | state, folder / "latest.pt")
        assert run("run", *still, f"train.steps={steps}", *more) == 0
        return checkpoint(folder)["best"]

    assert resume_above(1000.0, 4) == 1000
    assert resume_above(1000.0, 6, "validation.every=0") == 1000
    assert resume_above(1000.0, 8, judged=None) == 1000
    others = "validation.quick=1", "validation.defocus.sigma=[1,1.5]", "validation.fraction=0.5"
    for number, other in enumerate(others):
        assert resume_above(1000.0, 10 + 2 * number, other) < 200, other


PAIRS_ONLY = [
    "model.initial.name=InitialFusion",
    "model.initial.args={channels: 4, blocks: 1}",
    "model.boundary=null",
]


def test_a_network_for_pairs_learns_from_pairs(run, tmp_path, capsys):
    scenes = "{size: 32, photographs: [3, 3], radius: 4, step: [0.7, 1.5]}"
    paper = [*PAIRS_ONLY, "train.loss=paper", "train.steps=2"]
    assert run("a", *paper, "data.pairs=0", f"data.scenes={scenes}") == 2
    assert "takes 2 photographs at once; give data.pairs=1" in capsys.readouterr().err
    assert run("b", *PAIRS_ONLY, "train.steps=2") == 2
    assert "train.loss=paper" in capsys.readouterr().err
    assert run("c", *paper, "validation.every=2", f"validation.scenes.three={scenes}") == 0
    looks = (tmp_path / "c" / "validation.jsonl").read_text().splitlines()
    assert {json.loads(look)["set"] for look in looks} == {"pairs"}


def interrupt_after(patch, steps: int) -> None:
    """Send this process a SIGINT at the end of a step of the trainer."""
    step = main.Trainer.learn

    def stepping(trainer, *args):
        result = step(trainer, *args)
        if trainer.step == steps:
            os.kill(os.getpid(), signal.SIGINT)
        return result

    patch.setattr(main.Trainer, "learn", stepping)


def test_a_run_directory_explains_itself(run, tmp_path, capsys):
    assert run("run", "train.steps=4", "validation.every=2") == 0
    folder = tmp_path / "run"
    config = load_config(folder / "config.yaml")
    assert config.train.steps == 4 and config.run == str(folder)
    started = json.loads((folder / "run.jsonl").read_text())
    assert {"command", "started", "revision", "python", "torch", "machine", "step"} <= set(started)
    looks = [json.loads(line) for line in (folder / "validation.jsonl").read_text().splitlines()]
    assert [look["step"] for look in looks] == [2, 4]
    parts = [f"{row}_{part}" for row in ROWS for part in PARTS]
    assert set(looks[0]) == {"step", "set", "guidance", "sure", "copied", *parts}
    assert checkpoint(folder)["best"] == max(k["fused_whole"] + k["fused_band"] for k in looks)

    events = EventAccumulator(str(folder / "tensorboard"), {"images": 0, "scalars": 0}).Reload()
    scalars = events.Tags()["scalars"]
    for name in (
        "fusion",
        "boundary",
        "selection",
        "guidance",
        "gradient norm",
        "lr",
        "samples per second",
    ):
        assert [event.step for event in events.Scalars(f"train/{name}")] == [2, 4]
    assert {f"validation/pairs/{name}" for name in (*parts, "guidance")} <= set(scalars)
    image = events.Images(events.Tags()["images"][0])[0]
    # of both samples, side by side: first and last photograph, G, boundary map, fused, truth, error
    assert (image.height, image.width) == (32, 2 * 7 * 32)

    weights = load_file(folder / "latest.safetensors")
    averaged = checkpoint(folder)["ema"]
    assert all(torch.equal(weights[name], averaged[name]) for name in averaged)

    capsys.readouterr()
    figures = tmp_path / "figures.json"
    overrides = [f"run={folder}", f"data.photographs={config.data.photographs}", "device=cpu"]
    assert main.main([SMOKE, *overrides, "--evaluate", "--json", str(figures)]) == 0
    printed = capsys.readouterr().out
    values = json.loads(figures.read_text())
    for row, name in ROWS.items():
        cells = " | ".join(f"{values['pairs'][f'{row}_{part}']:.2f}" for part in PARTS)
        assert f"| {name} | {cells} |" in printed
    assert values["samples"] == {"pairs": 4} and "4 generated samples, set pairs" in printed


def test_stacks_are_trained_on_and_validated_beside_pairs(run, tmp_path, capsys):
    ranges = "size: 32, radius: 3, step: [0.7, 1], pair_step: [0.7, 3]"
    scenes = [f"data.scenes={{{ranges}, photographs: [2, 5]}}", "data.pairs=0.4"]
    sets = [f"validation.scenes={{stacks: {{{ranges}, photographs: [3, 4]}}}}"]
    assert run("run", *scenes, *sets, "train.steps=6", "validation.every=6") == 0
    looks = (tmp_path / "run" / "validation.jsonl").read_text().splitlines()
    assert [json.loads(look)["set"] for look in looks] == ["pairs", "stacks"]
    assert "step 6 stacks: whole" in capsys.readouterr().err


def test_the_loss_goes_down_on_a_few_samples(run, tmp_path, stored):
    root = stored(samples=2)
    data = [f"data.stored={root}", "data.defocus.size=24", "validation.every=0", "train.loss=paper"]
    assert run("run", *data, "train.steps=40", "train.schedule=paper", "train.lr=0.01") == 0
    (batch,) = in_order(StoredDataset(root), 2)

    def error(model) -> float:
        return (model(batch.photographs).fused - batch.truth).abs().mean().item()

    trained = load_model(tmp_path / "run" / "latest.safetensors")
    torch.manual_seed(1)  # the config's: the same start
    config = load_config(tmp_path / "run" / "config.yaml")
    with torch.no_grad():
        start = error(build(asdict(config.model)))
    assert error(trained) < 0.6 * start


@pytest.mark.parametrize("name", ["paper", "released"])
def test_the_paper_s_networks_train(tmp_path, stored, name):
    """A few steps on two tiny samples: the loss falls."""
    data = [f"data.stored={stored(samples=2)}", "data.defocus.size=16", "data.workers=0"]
    still = ["device=cpu", "validation.every=0", "train.batch=2", "train.log_every=1"]
    run = [str(ROOT / f"configs/{name}.yaml"), f"run={tmp_path}", *data, *still]
    assert main.main([*run, "train.steps=12", "train.lr=3e-4"]) == 0
    events = EventAccumulator(str(tmp_path / "tensorboard"), {"scalars": 0}).Reload()
    terms = [events.Scalars(f"train/{term}") for term in ("fusion", "boundary", "guidance")]
    total = [sum(event.value for event in step) for step in zip(*terms, strict=True)]
    assert len(total) == 12 and all(math.isfinite(value) for value in total)
    assert sum(total[-3:]) < 0.8 * sum(total[:3])


def test_nan_stops_and_keeps_the_last_good_checkpoint(run, tmp_path, capsys, monkeypatch):
    step = main.Trainer.learn

    def poisoned(trainer, *args):
        if trainer.step == 5:
            with torch.no_grad():
                next(trainer.model.parameters()).fill_(math.nan)
        return step(trainer, *args)

    monkeypatch.setattr(main.Trainer, "learn", poisoned)
    assert run("run", "train.steps=20", "validation.every=0") == 2
    message = capsys.readouterr().err.splitlines()[-1]
    assert message.startswith("error: the loss or its gradient stopped being finite before step 6")
    assert f"{tmp_path / 'run' / 'latest.pt'} of step 4 is good" in message
    state = flat(checkpoint(tmp_path / "run"))
    assert state["/step"] == 4
    assert all(leaf.isfinite().all() for leaf in state.values() if torch.is_tensor(leaf))
    monkeypatch.undo()
    assert run("run", "train.steps=6", "validation.every=0") == 0


def test_a_rate_that_explodes_is_stopped_before_anything_is_saved(run, tmp_path, capsys):
    assert run("run", "train.lr=1e30", "validation.every=0", "train.save_every=100") == 2
    assert "nothing was saved yet" in capsys.readouterr().err
    assert not (tmp_path / "run" / "latest.pt").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupt_saves_and_a_second_call_goes_on(tmp_path, photographs, number):
    folder = tmp_path / "run"
    command = [sys.executable, str(ROOT / "main.py"), SMOKE, f"run={folder}", "device=cpu"]
    command += [f"data.photographs={photographs}", "data.workers=1", "validation.every=0"]
    endless = ["train.steps=1000000", "train.save_every=1000000", "train.log_every=1"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        command + endless,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
    ) as process:
        for line in process.stderr:
            if re.search(r"step [3-9]\d* ", line):
                break
        os.killpg(process.pid, number)  # as terminals and schedulers do: to the workers as well
        rest = process.stderr.read()
        assert process.wait(timeout=60) == 0, rest
    saved = checkpoint(folder)["step"]
    assert saved >= 3
    assert f"stopped at step {saved}, saved; the same command goes on" in rest
    assert "Traceback" not in rest
    assert main.main([*command[2:], f"train.steps={saved + 2}"]) == 0
    assert checkpoint(folder)["step"] == saved + 2


def test_an_interruption_of_the_last_validation_is_told(tmp_path, photographs, capsys, monkeypatch):
    """The ablation would go on with its next network."""
    overrides = [f"run={tmp_path}", f"data.photographs={photographs}", "train.steps=2"]
    config = load_config(SMOKE, overrides)
    with monkeypatch.context() as patch:
        patch.setattr(main.Trainer, "_validate", lambda *_: os.kill(os.getpid(), signal.SIGINT))
        assert not main.train(config, torch.device("cpu"))
    assert checkpoint(tmp_path)["step"] == 2 and "goes on" not in capsys.readouterr().err
    assert main.train(config, torch.device("cpu"))


def test_training_starts_from_given_weights(run, tmp_path, capsys):
    assert run("first", "train.steps=2", "validation.every=0") == 0
    weights = tmp_path / "first" / "latest.safetensors"
    still = ["train.steps=1", "train.lr=0", "validation.every=0"]
    assert run("second", f"train.init={weights}", "seed=9", *still) == 0
    before, after = load_file(weights), load_file(tmp_path / "second" / "latest.safetensors")
    assert all(torch.equal(before[name], after[name]) for name in before)
    weights.rename(tmp_path / "moved")  # going on, the run needs them no longer
    assert run("second", f"train.init={weights}", "train.steps=2", *still[1:]) == 0
    weights = tmp_path / "moved"
    other = ["model.boundary=null", f"train.init={weights}", *still]
    assert run("third", *other) == 2
    assert "do not fit the given config" in capsys.readouterr().err
    assert run("fourth", f"train.init={tmp_path / 'none.safetensors'}", *still) == 2


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    weights = checkpoint(path.parent)["model"]["initial.net.encode.0.0.conv1.own.bias"]
    content[content.index(weights.numpy().tobytes()) + 9] ^= 4
    path.write_bytes(content)


def put_a_nan(path: Path) -> None:
    state = checkpoint(path.parent)
    state["ema"]["initial.score.weight"][0, 0, 0, 0] = math.nan
    torch.save(state, path)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda path: path.write_bytes(b""), ""),
        (lambda path: path.write_bytes(b"no checkpoint"), ""),
        (lambda path: path.write_bytes(b"PK\x03\x04" + b"0" * 100), ""),
        (flip_a_bit, "is wrong"),
        (put_a_nan, "initial.score.weight holds values that are not finite"),
        (lambda path: torch.save({"model": path}, path), ""),  # code, in a pickle
        (lambda path: None, "its model is another one than model.* says"),
    ],
    ids=["empty", "text", "cut short", "bit", "nan", "code", "another model"],
)
def test_a_checkpoint_that_is_no_good_is_named_and_kept(run, tmp_path, capsys, damage, said):
    path, still = tmp_path / "run" / "latest.pt", "validation.every=0"
    assert run("run", "train.steps=2", still) == 0
    damage(path)
    content = path.read_bytes()
    more = ["model.boundary.args.widths=[6, 6]"] if "another" in said else []
    assert run("run", "train.steps=4", still, *more) == 2
    message = capsys.readouterr().err.splitlines()[-1]
    assert f"cannot resume from {path}" in message and said in message
    assert path.read_bytes() == content


def test_resuming_takes_the_settings_of_the_config(run, tmp_path):
    assert run("run", "train.steps=1", "validation.every=0", "train.weight_decay=0.5") == 0
    assert run("run", "train.steps=2", "validation.every=0", "train.weight_decay=0.25") == 0
    groups = checkpoint(tmp_path / "run")["optimizer"]["param_groups"]
    assert [group["weight_decay"] for group in groups] == [0.25, 0.0]  # biases never


def test_bf16_trains_on_the_cpu(run, tmp_path):
    for loss in ("log", "paper"):
        options = [f"train.loss={loss}", "train.amp=bf16", "train.steps=2", "validation.every=0"]
        assert run(loss, *options) == 0
        assert all(
            w.isfinite().all() for w in load_file(tmp_path / loss / "latest.safetensors").values()
        )


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("train.amp=fp16", ["train.amp=fp16", "CUDA", "bf16"]),
        ("train.amp=half", ["train.amp=half", "off, bf16, fp16"]),
        ("train.loss=l1", ["train.loss=l1", "paper, log"]),
        ("train.schedule=step", ["train.schedule=step", "trapezoid"]),
        ("train.batch=0", ["train.batch=0"]),
        ("train.save_every=0", ["train.save_every=0"]),
        ("validation.quick=0", ["validation.quick"]),
        ("model.boundary.args.blok=2", ["'blok'", "did you mean blocks"]),
        ("train.stesp=2", ["train.stesp", "train.steps"]),
        ("data.photographs=''", ["photographs=DIR"]),
        ("data.defocus.model=beta", ["data.defocus", "'beta'", "alpha_matte"]),
        ("device=gpu", ["'gpu'"]),
    ],
)
def test_options_that_cannot_be_end_with_one_sentence(run, tmp_path, capsys, override, words):
    assert run("run", override) == 2
    error = capsys.readouterr().err.strip().splitlines()
    assert error[-1].startswith("error: ")
    assert all(word in error[-1] for word in words), error[-1]
    assert not (tmp_path / "run").exists()


def test_a_file_where_the_log_belongs_is_named(run, tmp_path, capsys):
    (tmp_path / "run").mkdir()
    (tmp_path / "run/tensorboard").write_text("notes")
    assert run("run") == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith(f"error: cannot write to folder {tmp_path / 'run/tensorboard'}: ")


def test_a_broken_sample_ends_the_run_with_its_name_whoever_reads_it(run, stored, capsys):
    root = stored(samples=2)
    (root / "FusionGT" / "1_FR.png").write_bytes(b"broken")
    options = [
        f"data.stored={root}",
        "data.workers=1",
        "data.defocus.size=16",
        "validation.every=0",
    ]
    assert run("run", *options) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith(f"error: {root / 'FusionGT' / '1_FR.png'}: ")


def test_json_that_cannot_be_written_is_named_before_any_work(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(main, "load_model", lambda path: pytest.fail("it began"))
    (tmp_path / "file").write_text("")
    for output in (tmp_path, tmp_path / "file/a.json"):
        assert main.main([SMOKE, "--evaluate", "--json", str(output)]) == 2
        assert f"error: cannot write {output}: " in capsys.readouterr().err


def test_evaluation_needs_weights(photographs, tmp_path, capsys):
    arguments = [SMOKE, f"data.photographs={photographs}", f"run={tmp_path}", "--evaluate"]
    assert main.main(arguments) == 2
    assert str(tmp_path / "best.safetensors") in capsys.readouterr().err


def test_one_of_several_processes_evaluates(monkeypatch):
    asked = []
    monkeypatch.setattr(main, "evaluate", lambda *arguments: asked.append(arguments))
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank in ("1", "0"):
        assert not asked
        monkeypatch.setenv("RANK", rank)
        assert main.main([SMOKE, "--evaluate"]) == 0
    assert len(asked) == 1


planes = hnp.arrays(np.float32, (1, 3, 4, 5), elements=st.floats(0, 1, width=32))


@settings(max_examples=40, deadline=None)
@given(planes, planes, planes, hnp.arrays(np.bool_, (1, 1, 4, 5)))
def test_no_selection_beats_the_oracle(image1, image2, truth, mask):
    image1, image2, truth, mask = map(torch.from_numpy, (image1, image2, truth, mask))
    oracle = oracle_selection(torch.stack([image1, image2], 1), truth)

    def error(image):
        return (image.double() - truth.double()).square().sum().item()

    assert error(oracle) <= error(torch.where(mask, image1, image2)) + 1e-6
    taken = (oracle == image1).all(1) | (oracle == image2).all(1)
    assert taken.all()  # it is a selection itself


def test_oracle_selection_of_squares_knows_no_luck_of_single_pixels():
    truth = torch.full((1, 3, 9, 11), 0.5)
    near, lucky = truth + 0.01, truth + 0.2
    lucky[..., 4, 5] = 0.5
    photographs = torch.stack([near, lucky], 1)
    torch.testing.assert_close(oracle_selection(photographs, truth)[..., 4, 5], truth[..., 4, 5])
    torch.testing.assert_close(oracle_selection(photographs, truth, side=3), near)


def test_psnr_is_scikit_image_s():
    rng = np.random.default_rng(0)
    image, truth = (rng.integers(0, 256, (2, 3, 20, 24)).astype(np.uint8) for _ in "12")
    mask = rng.random((2, 1, 20, 24)) < 0.3
    mine = psnr(*(torch.from_numpy(x) / 255 for x in (image, truth)))
    inside = psnr(
        *(torch.from_numpy(x) / 255 for x in (image, truth)), torch.from_numpy(mask).float()
    )
    for n in range(2):
        assert mine[n].item() == pytest.approx(
            peak_signal_noise_ratio(truth[n], image[n]), abs=1e-3
        )
        where = np.broadcast_to(mask[n], image[n].shape)
        expected = peak_signal_noise_ratio(truth[n][where], image[n][where], data_range=255)
        assert inside[n].item() == pytest.approx(expected, abs=1e-3)
    same = torch.from_numpy(truth) / 255
    assert psnr(same + 0.4 / 255, same).tolist() == pytest.approx([100, 100])  # as stored
    assert psnr(same, same, torch.zeros(2, 1, 20, 24)).isnan().all()


def test_guidance_accuracy_leaves_the_band_out():
    truth = torch.tensor([[0, 0, 0.5, 0.5, 1, 1], [1, 1, 0.5, 0.5, 0, 0], [0.0] * 6])
    guidance = torch.tensor([[0.2, 0.7, 0.1, 0.9, 0.8, 0.4], [0.8, 0.2, 0.9, 0.1, 0.2, 0.3]])
    guidance = torch.cat([guidance, 1 - guidance.sum(0, keepdim=True)])
    planes = (plane.reshape(1, 3, 1, 1, 6) for plane in (guidance, truth))
    assert guidance_accuracy(*planes).item() == pytest.approx(3 / 4)


def test_shares_of_what_is_sure_and_of_what_is_copied_leave_the_band_out():
    truth = torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(0))
    photographs = torch.stack([truth, truth.flip(-1)])
    guidance = torch.zeros(2, 1, 8, 8)
    guidance[0], guidance[:, :, 4:] = 1, 0.5  # the lower half is the band

    def model(_: torch.Tensor) -> Fusion:
        fused, found = truth.clone()[None], guidance.clone()[None]
        fused[..., 0, :] += 0.9 / 255  # rounding
        fused[..., 1, :6] -= 2 / 255
        found[:, :, :, 0] = torch.tensor([0.9, 0.1])[:, None, None]
        return Fusion(fused, fused, found, boundary_map(found), None, None)

    figures = validate(model, [Batch(photographs, truth, guidance)], torch.device("cpu"))
    assert figures["sure"] == pytest.approx(24 / 32)
    assert figures["copied"] == pytest.approx(26 / 32)


def test_bands_of_a_few_pixels_do_not_count():
    """A band of 1 of 1024 pixels, right by luck, beside one of half of them, wrong by 10 levels."""
    truth = torch.full((3, 32, 32), 128 / 255)
    guidance = torch.zeros(2, 2, 1, 32, 32)  # of two samples
    guidance[:, 0] = 1
    guidance[0, :, :, 0, 0], guidance[1, :, :, 16:] = 0.5, 0.5
    samples = [Batch(torch.stack([truth, truth]), truth, found) for found in guidance]

    def model(photographs: torch.Tensor) -> Fusion:
        fused = truth[None] + 10 / 255
        fused[..., 0, 0] = 128 / 255
        return Fusion(fused, fused, guidance[:1], boundary_map(guidance[:1]), None, None)

    figures = validate(model, samples, torch.device("cpu"))
    assert figures["fused_band"] == pytest.approx(-20 * math.log10(10 / 255), abs=0.01)
    assert math.isnan(validate(model, samples[:1], torch.device("cpu"))["fused_band"])


def test_no_temporary_files_are_left_beside_the_results(run, tmp_path):
    assert run("run", "train.steps=2", "validation.every=0") == 0
    expected = {"config.yaml", "run.jsonl", "latest.pt", "latest.safetensors", "tensorboard"}
    assert {path.name for path in (tmp_path / "run").iterdir()} == expected


@pytest.mark.parametrize("size", [500, 3000, 30_000, 100_000])
def test_a_full_disk_ends_with_one_sentence_and_the_run_goes_on(run, tmp_path, capsys, size):
    """No room for the config, for TensorBoard, for weights, for a checkpoint."""
    looks = [] if size < 10_000 else ["validation.every=0"]
    with room(size):
        code = run("a", "train.steps=2", "train.save_every=1", *looks)
    error = capsys.readouterr().err
    assert code == 2 and error.count("error: ") == 1 and "Traceback" not in error
    assert f"cannot write {tmp_path}" in error or f"cannot write to {tmp_path}" in error
    assert not list(tmp_path.rglob(".*"))
    assert run("a", "train.steps=2", *looks) == 0
