"""Datasets from a run's config: photographs and cut-outs, split, generated or stored."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from configs.schema import Config
from data.datasets import GeneratedDataset, Mixture, StoredDataset
from data.splits import is_held_out
from defocus.sample import SampleGenerator
from defocus.scene import SceneGenerator
from defocus.sources import Photographs, foregrounds, skip_report
from utils.errors import UserError

G = TypeVar("G", SampleGenerator, SceneGenerator)


def training_set(config: Config) -> Mixture | StoredDataset:
    """Samples by draw: from ``data.stored`` if given, else generated from ``data.photographs``.

    Without ``validation.photographs``, the share ``validation.fraction`` of the photographs is
    held out.
    """
    data, held_out = config.data, config.validation.fraction
    if data.stored:
        return StoredDataset(data.stored, crop=data.defocus.size, seed=config.seed)
    own = not config.validation.photographs
    keep = (lambda name: not is_held_out(name, held_out)) if own else None
    sources = Sources("data", data.photographs, data.cutouts, keep)
    pairs = sources.generator(SampleGenerator, "defocus", data.defocus, config.seed)
    scenes = None
    if data.scenes:
        scenes = sources.generator(SceneGenerator, "scenes", data.scenes, config.seed)
    return Mixture(pairs, scenes, data.pairs, config.seed)


def validation_set(config: Config, samples: int) -> GeneratedDataset:
    """The first ``samples`` pairs of the run's validation set; see :func:`validation_sets`."""
    return validation_sets(config, samples, 0)["pairs"]


def validation_sets(config: Config, pairs: int, scenes: int) -> dict[str, GeneratedDataset]:
    """The first samples of each of the run's validation sets: ``pairs`` of the two-layer model,
    and ``scenes`` of each of ``validation.scenes``.

    Raises:
        UserError: no photographs, no samples, or photographs that are trained on.
    """
    data = config.validation
    if pairs < 1:
        raise UserError("validation.samples and validation.quick have to be at least 1")
    if data.photographs:
        trained, held_out = (Path(p).resolve() for p in (config.data.photographs, data.photographs))
        shared = trained == held_out or trained in held_out.parents or held_out in trained.parents
        if config.data.photographs and shared:
            raise UserError(
                f"validation.photographs={data.photographs} are trained on; name other ones, or "
                "none to hold out a share of data.photographs"
            )
        sources = Sources("validation", data.photographs, data.cutouts)
    elif config.data.photographs:
        own = config.data.photographs, config.data.cutouts
        sources = Sources("data", *own, lambda name: is_held_out(name, data.fraction))
    else:
        raise UserError(
            "validation needs photographs: name held-out ones, validation.photographs=DIR, or "
            "data.photographs=DIR, of which a share is held out"
        )
    generator = sources.generator(SampleGenerator, "defocus", data.defocus, data.seed)
    sets = {"pairs": GeneratedDataset(generator, pairs)}
    for name, ranges in data.scenes.items() if scenes else ():
        generator = sources.generator(SceneGenerator, f"scenes.{name}", ranges, data.seed)
        sets[name] = GeneratedDataset(generator, scenes)
    return sets


class Sources:
    """A folder of photographs and one of cut-outs; skipped files are reported.

    Args:
        key: of the config that names the folders.
        photographs, cutouts: folders; without cut-outs all mattes are procedural.
        keep: which photographs to use, by name; all by default.

    Raises:
        UserError: no folder named, or nothing usable in it.
    """

    def __init__(
        self,
        key: str,
        photographs: str,
        cutouts: str | None,
        keep: Callable[[str], bool] | None = None,
    ):
        if not photographs:
            raise UserError(f"name a folder of photographs: {key}.photographs=DIR")
        self.key = key
        sources: list = [Photographs(photographs)]
        if cutouts:
            sources.append(foregrounds(cutouts))
        for folder, source in zip((photographs, cutouts), sources, strict=False):
            if source.skipped:
                print(f"{folder}: {skip_report(source)}", file=sys.stderr)
        if keep:
            sources = [source.only(filter(keep, source.photographs)) for source in sources]
        self.photographs, *self.cutouts = sources
        if len(self.photographs) < 2:
            raise UserError(
                f"{photographs} leaves {len(self.photographs)} photographs; 2 layers need 2"
            )

    def generator(self, kind: type[G], name: str, ranges: Any, seed: int) -> G:
        """A generator of samples from these sources, of the ranges in the config key ``name``."""
        try:
            return kind(ranges, self.photographs, self.cutouts, seed)
        except ValueError as error:
            raise UserError(f"{self.key}.{name}: {error}") from error
