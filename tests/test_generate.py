"""Stored datasets: the same bytes however they are made, resumable, never half-written."""

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from configs.schema import merge
from data import generate
from data.build import validation_sets
from data.datasets import StoredDataset
from data.generate import main
from tests.conftest import ROOT
from tests.hostile.faults import room
from utils.errors import UserError

COUNT = 5


@pytest.fixture(scope="module")
def config(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("generate")
    rng = np.random.default_rng(0)
    for split in ("train", "test"):
        (root / split).mkdir()
        for name in "abc":
            coarse = rng.integers(0, 256, (40, 50, 3), np.uint8)
            path = root / split / f"{split}-{name}.png"
            cv2.imwrite(str(path), cv2.resize(coarse, (200, 160)))
    path = root / "config.yaml"
    path.write_text(
        f"data: {{photographs: {root / 'train'}, defocus: {{sigma: [0.7, 2.0]}}, "
        "scenes: {photographs: [2, 4], radius: 6}}\n"
        f"validation: {{photographs: {root / 'test'}, defocus: {{sigma: [0.7, 2.0]}}, "
        "scenes: {three: {layers: [0, 0, 1], photographs: [2, 3], radius: 6}}}\n"
    )
    return path


def run(config: Path, output: Path, *more: str) -> int:
    arguments = ["--config", str(config), "--output", str(output), "--size", "32"]
    return main([*arguments, "--count", str(COUNT), "--workers", "1", *more])


def contents(folder: Path) -> dict[str, bytes]:
    """Every file but the one that records time and place."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != "dataset.json")
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def dataset(config) -> Path:
    output = config.parent / "dataset"
    assert run(config, output) == 0
    return output


def test_layout_and_manifest(dataset):
    files = contents(dataset)
    names = [p for n in range(COUNT) for p in (f"InputL/{n}_L.png", f"InputR/{n}_R.png")]
    names += [p for n in range(COUNT) for p in (f"FusionGT/{n}_FR.png", f"FusionMapT/{n}_G.png")]
    assert set(files) == {"manifest.jsonl", *names}
    lines = [json.loads(line) for line in files["manifest.jsonl"].splitlines()]
    assert [line["index"] for line in lines] == list(range(COUNT))
    assert all(line["foreground"].startswith("train-") for line in lines)
    about = json.loads((dataset / "dataset.json").read_text())
    assert about["defocus"]["size"] == 32 and about["split"] == "train"


def test_what_is_read_back_is_what_was_generated(config, dataset):
    arguments = ["--config", str(config), "--output", "", "--count", "1", "--size", "32"]
    generator = generate.make_generator(generate.parse(arguments))
    stored = StoredDataset(dataset)
    assert len(stored) == COUNT
    for index in range(COUNT):
        sample = generator[index]
        for name, plane in stored[index]._asdict().items():
            torch.testing.assert_close(plane, getattr(sample, name), atol=1e-6, rtol=0)


def test_workers_do_not_change_a_byte(config, dataset, tmp_path):
    assert run(config, tmp_path / "out", "--workers", "3") == 0
    assert contents(tmp_path / "out") == contents(dataset)


def test_interrupted_and_damaged_it_goes_on_to_the_same(config, dataset, tmp_path, monkeypatch):
    output, seen = tmp_path / "out", []

    class Interrupted(generate.tqdm):
        def update(self, n=1):
            seen.append(n)
            if len(seen) == 2:
                raise KeyboardInterrupt
            return super().update(n)

    with monkeypatch.context() as patch:
        patch.setattr(generate, "tqdm", Interrupted)
        assert run(config, output) == 130
    complete = contents(dataset)
    partly = contents(output)
    manifest = partly.pop("manifest.jsonl")
    assert 1 <= len(manifest.splitlines()) < COUNT
    assert all(complete[name] == data for name, data in partly.items())  # whole files only

    (output / "InputR" / "0_R.png").unlink()
    (output / "manifest.jsonl").write_bytes(manifest + b'{"index": 3, "ps')
    assert run(config, output) == 0
    assert contents(output) == complete


def test_nothing_is_made_twice_and_more_can_be_added(config, dataset, tmp_path, capsys):
    before = {path: path.stat().st_mtime_ns for path in dataset.rglob("*.png")}
    assert run(config, dataset) == 0
    assert "already" in capsys.readouterr().out
    assert before == {path: path.stat().st_mtime_ns for path in dataset.rglob("*.png")}
    assert run(config, tmp_path / "out", "--count", "2") == 0
    assert "samples/s" in capsys.readouterr().out
    assert run(config, tmp_path / "out") == 0
    assert contents(tmp_path / "out") == contents(dataset)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (["--seed", "7"], "seed"),
        (["--size", "40"], "config"),
        (["data.defocus.swap=1"], "config"),
        (["--split", "validation"], "split and seed"),
    ],
)
def test_another_dataset_is_not_mixed_in(config, dataset, capsys, change, what):
    before = contents(dataset)
    assert run(config, dataset, *change) == 2
    assert f"another {what}" in capsys.readouterr().err
    assert contents(dataset) == before


def test_a_dataset_of_photographs_that_validate_is_not_trained_on(config, dataset, tmp_path):
    values = {"data": {"photographs": str(config.parent / "train"), "stored": str(dataset)}}
    held_out = {"validation": {"photographs": str(config.parent / "test")}}
    sets = validation_sets(merge(values | held_out), 3)
    assert set(sets["pairs"].generator.photographs.photographs) == {"test-a", "test-b", "test-c"}
    with pytest.raises(UserError, match="has samples of .*/train-a.png, which validates"):
        validation_sets(merge(values | {"validation": {"fraction": 1.0}}), 3)
    about = json.loads((dataset / "dataset.json").read_text())
    del about["photographs"]  # as former versions wrote it
    (tmp_path / "dataset.json").write_text(json.dumps(about))
    values["data"]["stored"] = str(tmp_path)
    assert validation_sets(merge(values | {"validation": {"fraction": 1.0}}), 3)


def test_a_dataset_of_other_photographs_of_the_same_names_is_trained_on(config, dataset, tmp_path):
    for folder, source in (("others", "test"), ("copies", "train")):
        (tmp_path / folder).mkdir()
        for name in "abc":
            picture = config.parent / source / f"{source}-{name}.png"
            shutil.copy(picture, tmp_path / folder / f"train-{name}.png")

    def sets(stored: Path, folder: str):
        photographs = {"photographs": str(tmp_path / folder)}
        return validation_sets(
            merge({"data": {"stored": str(stored)}, "validation": photographs}), 3
        )

    assert sets(dataset, "others")
    with pytest.raises(UserError, match="has samples of .*/train/train-a.png, which validates"):
        sets(dataset, "copies")
    about = json.loads((dataset / "dataset.json").read_text())
    for gone in ("/gone/train-b.png", "train-b"):  # of former versions, names alone
        about["photographs"] = [gone]
        (tmp_path / "dataset.json").write_text(json.dumps(about))
        with pytest.raises(UserError, match=f"has samples of {gone}, which validates"):
            sets(tmp_path, "others")


def test_validation_split_uses_its_photographs(config, tmp_path):
    assert run(config, tmp_path / "out", "--split", "validation", "--count", "2") == 0
    lines = (tmp_path / "out" / "manifest.jsonl").read_text().splitlines()
    assert all(json.loads(line)["background"].startswith("test-") for line in lines)


@pytest.mark.parametrize(("split", "name"), [("train", "scenes"), ("validation", "three")])
def test_scenes(config, tmp_path, split, name):
    """Photographs, truth, and the number of the photograph that is right, 255 where none is."""
    output, chosen = tmp_path / "out", ("--set", name, "--split", split)
    assert run(config, output, *chosen) == 0
    arguments = ["--config", str(config), "--output", "", "--count", "1", "--size", "32"]
    generator = generate.make_generator(generate.parse([*arguments, *chosen]))
    lines = [json.loads(line) for line in (output / "manifest.jsonl").read_text().splitlines()]
    files = {"manifest.jsonl"}
    for index, line in enumerate(lines):
        sample = generator[index]
        assert line == sample.parameters
        paths = [f"Photographs/{index}_{k}.png" for k in range(line["photographs"])]
        for path, image in zip(paths, sample.photographs, strict=True):
            stored = cv2.imread(str(output / path))[..., ::-1] / np.float32(255)
            np.testing.assert_allclose(stored.transpose(2, 0, 1), image, atol=1e-6)
        right = cv2.imread(str(output / f"FusionMapT/{index}_G.png"), cv2.IMREAD_GRAYSCALE)
        for k, guidance in enumerate(sample.guidance[:, 0].numpy()):
            assert np.array_equal(right == k, guidance == 1)
        assert (right[(sample.guidance.amax(0) < 1)[0].numpy()] == 255).all()
        files |= {*paths, f"FusionGT/{index}_FR.png", f"FusionMapT/{index}_G.png"}
    before = contents(output)
    assert len(lines) == COUNT and set(before) == files
    (output / files.difference({"manifest.jsonl"}).pop()).unlink()
    assert run(config, output, *chosen) == 0
    assert contents(output) == before


def test_mistakes_end_in_one_sentence(config, tmp_path, capsys):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "note.txt").write_text("mine")
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "dataset.json").write_text("{")
    for arguments, message in (
        ((config, tmp_path / "full"), "holds other files"),
        ((config, tmp_path / "damaged"), "is damaged"),
        ((config, tmp_path / "out", "--count", "0"), "--count must be 1 or more"),
        ((config, tmp_path / "out", "--workers", "0"), "--workers must be"),
        ((config, tmp_path / "out", "--seed", "-1"), "--seed must be 0 or more"),
        ((config, tmp_path / "out", "--size", "20000"), "--size must be 8192 or less"),
        ((config, tmp_path / "out", "data.scenes.size=64"), "is given by --size"),
        ((config, tmp_path / "out", "data.defocus.sigmas=1"), "did you mean data.defocus.sigma"),
        ((config, tmp_path / "out", "data.photographs=nowhere"), "nowhere"),
        (
            (config, tmp_path / "out", "data.defocus.noise={low: 2, high: 1}"),
            "noise.low=2 is above",
        ),
        ((config, tmp_path / "out", "--set", "four"), "no train set four; it has pairs, scenes"),
        ((tmp_path / "none.yaml", tmp_path / "out"), "none.yaml"),
    ):
        assert run(*arguments) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ") and message in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_output_inside_a_file_is_refused(config, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert run(config, tmp_path / "file" / "out") == 2
    assert "cannot write" in capsys.readouterr().err


@pytest.mark.parametrize("damage", [b"\xff\xfe{}\x00", b"[]\n\x80", "{}\n".encode("utf-16")])
def test_a_damaged_manifest_is_made_again(config, dataset, tmp_path, damage):
    shutil.copytree(dataset, tmp_path / "out")
    (tmp_path / "out/manifest.jsonl").write_bytes(damage)
    assert run(config, tmp_path / "out") == 0
    assert contents(tmp_path / "out") == contents(dataset)


def test_a_full_disk_ends_with_one_sentence_and_room_is_enough(config, dataset, tmp_path, capsys):
    for size in (100, 1500):  # not of dataset.json, of guidance maps alone
        with room(size):
            assert run(config, tmp_path / "out") == 2
        (line,) = (x for x in capsys.readouterr().err.splitlines() if x.startswith("error: "))
        assert f"cannot write {tmp_path}" in line and "Traceback" not in line
        assert not list(tmp_path.rglob(".*"))
    assert run(config, tmp_path / "out") == 0
    assert contents(tmp_path / "out") == contents(dataset)


def test_a_killed_run_leaves_no_process_and_the_same_command_no_file(config, dataset, tmp_path):
    output = tmp_path / "out"
    command = [sys.executable, "-m", "data.generate", "--config", config, "--output", output]
    command += ["--size", "32", "--count", "100000", "--workers", "2"]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE) as process:
        while not (output / "FusionMapT/9_G.png").exists():
            time.sleep(0.01)
        process.kill()
        process.stderr.read()  # until the last that writes there has ended
    (output / "InputL/.3_L.0123abcd.png").touch()
    assert run(config, output) == 0
    assert not list(output.rglob(".*"))
