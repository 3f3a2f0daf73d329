"""Datasets from a run's config: photographs and cut-outs, split, generated or stored."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from torch.utils.data import Dataset

from data.datasets import GeneratedDataset, StoredDataset
from data.splits import is_held_out
from defocus.sample import DefocusConfig, SampleGenerator
from defocus.sources import Photographs, foregrounds, skip_report
from utils.config import Config
from utils.errors import UserError


def training_set(config: Config) -> Dataset:
    """Samples by draw: from ``data.stored`` if given, else generated from ``data.photographs``.

    Without ``validation.photographs``, the share ``validation.fraction`` of the photographs is
    held out.
    """
    data, held_out = config.data, config.validation.fraction
    if data.stored:
        return StoredDataset(data.stored, crop=data.defocus.size, seed=config.seed)
    own = not config.validation.photographs
    generator = make_generator(
        "data",
        data.photographs,
        data.cutouts,
        data.defocus,
        config.seed,
        (lambda name: not is_held_out(name, held_out)) if own else None,
    )
    return GeneratedDataset(generator, length=0)


def validation_set(config: Config, samples: int) -> Dataset:
    """The first ``samples`` samples of the run's validation set.

    Raises:
        UserError: no photographs, no samples, or photographs that are trained on.
    """
    data = config.validation
    own = not data.photographs
    if samples < 1:
        raise UserError("validation.samples and validation.quick have to be at least 1")
    if own and not config.data.photographs:
        raise UserError(
            "validation needs photographs: name held-out ones, validation.photographs=DIR, or "
            "data.photographs=DIR, of which a share is held out"
        )
    if not own and config.data.photographs:
        trained, held_out = (Path(p).resolve() for p in (config.data.photographs, data.photographs))
        if trained == held_out or trained in held_out.parents or held_out in trained.parents:
            raise UserError(
                f"validation.photographs={data.photographs} are trained on; name other ones, or "
                "none to hold out a share of data.photographs"
            )
    generator = make_generator(
        "data" if own else "validation",
        config.data.photographs if own else data.photographs,
        config.data.cutouts if own else data.cutouts,
        data.defocus,
        data.seed,
        (lambda name: is_held_out(name, data.fraction)) if own else None,
    )
    return GeneratedDataset(generator, length=samples)


def make_generator(
    key: str,
    photographs: str,
    cutouts: str | None,
    defocus: DefocusConfig,
    seed: int,
    keep: Callable[[str], bool] | None = None,
) -> SampleGenerator:
    """A generator over a folder of photographs and one of cut-outs; skipped files are reported.

    Args:
        key: of the config that named the folders, for messages.
        photographs, cutouts: folders; no cut-outs means procedural mattes only.
        defocus: ranges of the samples.
        seed: of the samples.
        keep: which photographs to use, by name; all by default.

    Raises:
        UserError: no folder named, or nothing usable in it.
    """
    if not photographs:
        raise UserError(f"name a folder of photographs: {key}.photographs=DIR")
    sources: list = [Photographs(photographs)]
    if cutouts:
        sources.append(foregrounds(cutouts))
    for folder, source in zip((photographs, cutouts), sources, strict=False):
        if source.skipped:
            print(f"{folder}: {skip_report(source)}", file=sys.stderr)
    if keep:
        sources = [source.only(filter(keep, source.photographs)) for source in sources]
    if len(sources[0]) < 2:
        raise UserError(f"{photographs} leaves {len(sources[0])} photographs; 2 layers need 2")
    try:
        return SampleGenerator(defocus, sources[0], sources[1:], seed)
    except ValueError as error:
        raise UserError(f"{key}.defocus: {error}") from error
