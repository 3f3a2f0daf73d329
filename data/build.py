"""Datasets from a run's config: photographs and cut-outs, split, generated or stored."""

import hashlib
import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from configs.schema import Config
from data.apart import shared
from data.datasets import GeneratedDataset, Mixture, StoredDataset
from defocus.materials import Generator, SampleConfig
from defocus.sample import SampleGenerator
from defocus.scene import SceneConfig, SceneGenerator
from defocus.sources import ForegroundSource, Photographs, foregrounds, images_in, skip_report
from utils.errors import UserError

Sources = tuple[Photographs, list[ForegroundSource]]
Read = Callable[[str, str | None], Sources]


def is_held_out(photograph: str, fraction: float) -> bool:
    """Whether a photograph belongs to validation, as does ``fraction`` in [0, 1] of all. A hash of
    its name (the stem of its file) decides: the split stays when photographs are added, and all
    cut-outs of a photograph are on one side."""
    digest = hashlib.sha256(photograph.encode()).digest()
    return int.from_bytes(digest[:8], "big") < fraction * 2**64


def read_sources(photographs: str, cutouts: str | None) -> Sources:
    """Photographs and cut-outs of two folders; reports skipped files, and raises a UserError if
    nothing in a folder is usable."""
    sources: list = [Photographs(photographs), *([foregrounds(cutouts)] if cutouts else [])]
    for folder, source in zip((photographs, cutouts), sources, strict=False):
        if source.skipped:
            print(f"{folder}: {skip_report(source.skipped, len(source))}", file=sys.stderr)
    return sources[0], sources[1:]


def training_set(config: Config, read: Read = read_sources) -> Mixture | StoredDataset:
    """Samples by draw: from ``data.stored`` if given, else generated from ``data.photographs``,
    except those held out (``validation.fraction``, if there are no ``validation.photographs``)."""
    data, held_out = config.data, config.validation.fraction
    if data.stored:
        if _about(data.stored).get("split") == "validation":
            way = "generate others with --split train"
            raise UserError(f"data.stored={data.stored} holds samples for validation; {way}")
        return StoredDataset(data.stored, crop=data.defocus.size, seed=config.seed)
    if not data.photographs:
        raise UserError("name a folder of photographs: data.photographs=DIR")
    own = not config.validation.photographs
    keep = (lambda name: not is_held_out(name, held_out)) if own else None
    sources = _sources(data.photographs, data.cutouts, keep, read)
    pairs = _generator(sources, "data.defocus", data.defocus, config.seed)
    scenes = data.scenes and _generator(sources, "data.scenes", data.scenes, config.seed)
    return Mixture(pairs, scenes, data.pairs, config.seed)


def validation_sets(
    config: Config, pairs: int, scenes: int = 0, read: Read = read_sources
) -> dict[str, GeneratedDataset]:
    """The first ``pairs`` of the two-layer model, and ``scenes`` of each of ``validation.scenes``;
    raises a UserError without photographs, or with those that are trained on."""
    data = config.validation
    for name in ("pairs", "samples", "weights"):  # of the other set, and beside sets in --json
        if name in data.scenes:
            raise UserError(f"validation.scenes.{name}: that name is taken; give another")
    sources = _held_out_sources(config, read)
    generator = _generator(sources, "validation.defocus", data.defocus, data.seed)
    sets = {"pairs": GeneratedDataset(generator, pairs)}
    for name, ranges in data.scenes.items() if scenes else ():
        generator = _generator(sources, f"validation.scenes.{name}", ranges, data.seed)
        sets[name] = GeneratedDataset(generator, scenes)
    return sets


def _held_out_sources(config: Config, read: Read) -> Sources:
    """What validation samples are made of: nothing that is trained on."""
    trained, data = config.data, config.validation
    if data.photographs:
        ways = "name other ones, or none to hold out a share of data.photographs"
        for name in ("photographs", "cutouts"):
            one, other = getattr(trained, name), getattr(data, name)
            if one and other and _overlap(one, other):
                raise UserError(f"validation.{name}={other} are trained on; {ways}")
        sides = (trained.photographs, trained.cutouts), (data.photographs, data.cutouts)
        if same := shared(*(_images(*folders) for folders in sides)):
            way = "take it out of one of these folders"
            raise UserError("{} trains and {}, the same picture, validates; ".format(*same) + way)
        sources = _sources(data.photographs, data.cutouts, None, read)
    elif not trained.photographs:
        ways = "validation.photographs=DIR, or data.photographs=DIR, of which a share is held out"
        raise UserError(f"validation needs photographs: name held-out ones, {ways}")
    elif data.cutouts:
        ways = "name validation.photographs=DIR as well, or give validation.cutouts=null"
        raise UserError(f"validation.cutouts={data.cutouts} stands alone; {ways}")
    else:
        keep = partial(is_held_out, fraction=data.fraction)
        sources = _sources(trained.photographs, trained.cutouts, keep, read)
    if trained.stored:
        validates = (path for part in (sources[0], *sources[1]) for path in part.paths)
        made_of = map(Path, _about(trained.stored).get("photographs", ()))
        if same := shared(made_of, validates):
            what = f"data.stored={trained.stored} has samples of {same[0]}"
            raise UserError(f"{what}, which validates; generate it again with this split")
    return sources


def _about(stored: str) -> dict:
    """What ``dataset.json`` says of a stored data set; nothing of one that other code wrote."""
    try:
        about = json.loads(Path(stored, "dataset.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return about if isinstance(about, dict) else {}


def _images(*folders: str | None) -> list[Path]:
    """The images of these folders. To validate, what was trained on need not be there."""
    found = (Path(folder) for folder in folders if folder)
    return [path for folder in found if folder.is_dir() for path in images_in(folder)]


def _overlap(one: str, other: str) -> bool:
    """Whether two folders are one, or one is in the other."""
    first, second = Path(one).resolve(), Path(other).resolve()
    return first == second or first in second.parents or second in first.parents


def _sources(
    photographs: str, cutouts: str | None, keep: Callable[[str], bool] | None, read: Read
) -> Sources:
    """What ``keep`` takes of two folders, or all; raises a UserError where it is too little."""
    backgrounds, cuts = read(photographs, cutouts)
    if keep:
        backgrounds, *cuts = (
            source.only(filter(keep, source.photographs)) for source in (backgrounds, *cuts)
        )
    if len(backgrounds) < 2:
        what = f"{photographs} leaves {len(backgrounds)} of 2 photographs for a sample"
        other = ", or change the share held out, validation.fraction" if keep else ""
        raise UserError(f"{what}; add some{other}")
    return backgrounds, cuts


def _generator(sources: tuple, key: str, ranges: SampleConfig, seed: int) -> Generator:
    """A generator of samples of the ranges in ``key`` of the config."""
    try:
        kind = SceneGenerator if isinstance(ranges, SceneConfig) else SampleGenerator
        return kind(ranges, *sources, seed=seed)
    except ValueError as error:
        raise UserError(f"{key}: {error}") from error
