"""The ablation: configs that differ only in what is ablated, trained and tabulated at once."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from configs.schema import flat, load_config
from evaluation import ablation
from utils.errors import UserError
from utils.images import read_photo, write_png


def quick_training(run: Path, photographs: Path) -> list[str]:
    """Overrides that make training and validation a matter of a second."""
    return [
        f"run={run}",
        f"data.photographs={photographs}",
        "data.cutouts=null",
        "data.workers=0",
        "data.defocus.size=32",
        "data.defocus.sigma=[0.7,1.5]",
        "validation.photographs=''",
        "validation.cutouts=null",
        "validation.fraction=0.3",
        "validation.samples=1",
        "validation.quick=1",
        "validation.defocus.size=64",
        "train.steps=1",
        "train.batch=1",
    ]


def resolved(path) -> dict[str, object]:
    config = dict(flat(asdict(load_config(path))))
    del config["run"]
    return config


@pytest.mark.parametrize("name", ["one_parameter", "two_parameter", "alpha_matte_initial"])
def test_configs_differ_from_the_alpha_matte_only_in_what_is_ablated(name):
    base = resolved(ablation.CONFIGS / "alpha_matte.yaml")
    other = resolved(ablation.CONFIGS / f"{name}.yaml")
    differing = {key for key in base | other if base.get(key) != other.get(key)}
    if name == "alpha_matte_initial":
        assert differing and all(key.startswith("model.boundary") for key in differing)
    else:
        assert differing == {"data.defocus.model"}
        assert other["data.defocus.model"] == name


def test_the_alpha_matte_ablation_is_the_default_network_on_data_that_all_models_can_make():
    """The default trains for longer, on scenes too, of which the other models know nothing, and has
    two blocks more at the end of the boundary sub-net, and 48 channels instead of 40 in its second
    level, since the ablation was run."""
    base = resolved(ablation.CONFIGS / "alpha_matte.yaml")
    default = resolved(ablation.CONFIGS.parent / "mmfnet.yaml")
    differing = {key for key in base | default if base.get(key) != default.get(key)}
    since = {"model.boundary.args.refine", "model.boundary.args.widths"}
    assert {key for key in differing if key.startswith("model.")} == since
    differing = {key for key in differing if ".scenes" not in key}
    stacks = {f"data.defocus.unfocused.{key}" for key in ("probability", "low", "high")}
    scale = {"train.steps", "train.batch", "data.defocus.size", "data.defocus.sigma"}
    assert differing == stacks | scale | since | {"data.pairs", "train.weight_decay"}


def test_trains_tabulates_and_does_not_train_again(tmp_path, photographs, capsys):
    for mark in "AB":
        photograph = read_photo(f"data/samples/cat-{mark}.png").rgb[:64, :80]
        write_png(tmp_path / f"pairs/cat-{mark}.png", photograph)
    arguments = ["--out", str(tmp_path / "out"), "--only", "alpha_matte", "alpha_matte_initial"]
    arguments += ["--seeds", "1", "2", "--set", *quick_training(tmp_path / "runs", photographs)]
    on_pairs = ["--sources", str(tmp_path / "pairs"), "--pairs", "cat", "--workers", "1"]
    assert ablation.main([*arguments, *on_pairs]) == 0
    checkpoints = sorted((tmp_path / "runs").glob("*/*/latest.pt"))
    names = [str(path.parent.relative_to(tmp_path / "runs")) for path in checkpoints]
    models = ("alpha_matte", "alpha_matte_initial")
    assert names == [f"{model}/seed-{seed}" for model in models for seed in (1, 2)]
    before = [path.stat().st_mtime_ns for path in checkpoints]
    figures = json.loads((tmp_path / "out/synthetic.json").read_text())
    first, second = figures["alpha_matte"]
    assert first["fused_whole"] != second["fused_whole"]  # other weights
    assert first["oracle_whole"] == second["oracle_whole"]  # the same samples
    initial = figures["alpha_matte_initial"][0]
    assert initial["fused_whole"] == initial["initial_whole"]  # there is no boundary fusion
    assert "Q_G" in (tmp_path / "out/tables.md").read_text()
    assert (tmp_path / "out/cat-insets.jpg").exists()
    assert not (tmp_path / "out/fused").exists()
    capsys.readouterr()
    assert ablation.main(arguments) == 0
    assert [path.stat().st_mtime_ns for path in checkpoints] == before


def test_a_run_of_other_settings_is_not_taken_for_this_one(tmp_path, photographs, capsys):
    overrides = quick_training(tmp_path / "runs", photographs)
    arguments = ["--out", str(tmp_path / "out"), "--only", "alpha_matte", "--seeds", "1", "--set"]
    assert ablation.main([*arguments, *overrides]) == 0
    assert ablation.main([*arguments, *overrides, "data.workers=1", "train.save_every=9"]) == 0
    capsys.readouterr()
    others = "train.batch=2", "data.defocus.model=two_parameter", "model.boundary=null"
    for other in (*others, "validation.fraction=0.4"):
        assert ablation.main([*arguments, *overrides, other]) == 2
        said = capsys.readouterr().err
        assert f"runs/alpha_matte/seed-1 was trained with another {other.split('=')[0]}" in said


def test_a_checkpoint_that_is_cut_short_is_named(tmp_path, photographs, capsys):
    checkpoint = tmp_path / "runs/alpha_matte/seed-1/latest.pt"
    checkpoint.parent.mkdir(parents=True)
    checkpoint.write_bytes(b"PK\3\4 and no more")
    arguments = ["--out", str(tmp_path / "out"), "--only", "alpha_matte", "--seeds", "1"]
    overrides = quick_training(tmp_path / "runs", photographs)
    assert ablation.main([*arguments, "--set", *overrides]) == 2
    assert f"cannot resume from {checkpoint}" in capsys.readouterr().err


def test_an_interruption_ends_it_instead_of_going_on_with_the_next_network(tmp_path, monkeypatch):
    trained = []
    monkeypatch.setattr(ablation, "train", lambda config, _: trained.append(config.run))
    out = tmp_path / "out"
    overrides = f"run={tmp_path}/runs"
    assert ablation.main(["--out", str(out), "--seeds", "1", "2", "--set", overrides]) == 130
    assert len(trained) == 1
    assert not out.exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--workers", "0"], "--workers has to be at least 1"),
        (["--seeds", "-1"], "--seeds are 0 or more"),
        (["--sources", "data/samples", "--pairs", "dog"], "did you mean"),
        (["--sources", "data/samples", "--pairs", "cat", "--insets", "9"], "x,y"),
        (["--sources", "nowhere"], "no folder nowhere"),
    ],
)
def test_what_would_fail_after_training_is_refused(tmp_path, capsys, monkeypatch, options, said):
    monkeypatch.setattr(ablation, "train", lambda *args: pytest.fail("it trained"))
    assert ablation.main(["--out", str(tmp_path / "out"), *options]) == 2
    assert said in capsys.readouterr().err


def test_mean_and_spread_over_the_seeds():
    keys = [f"{row}_{part}" for row in ("initial", "fused", "oracle") for part in ("whole", "band")]
    rows = [dict.fromkeys(keys, db) | {"guidance": right} for db, right in ((39, 0.98), (41, 0.96))]
    config = load_config(ablation.CONFIGS / "alpha_matte.yaml")
    lines = ablation.synthetic_table({"alpha_matte": rows}, config).splitlines()
    assert lines[4] == "| alpha matte |" + " 40.00 ± 1.41 |" * 4 + " 97.00 ± 1.41 |"
    assert "over 2 seeds" in lines[0]


def test_a_network_named_twice_counts_once():
    (runs,) = ablation.choose(["alpha_matte", "alpha_matte"], [1, 2, 1], []).values()
    assert [config.seed for config in runs] == [1, 2]


def test_an_unknown_name_is_refused():
    with pytest.raises(UserError, match="choose of alpha_matte"):
        ablation.choose(["beta_matte"], [1], [])
