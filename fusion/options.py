"""Options of the command line that concern fusing and the files written."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Options:
    """Options of one run.

    Attributes:
        order: of the frames: "name", "time" or "focus".
        align, motion, exposure, crop, memory: see :func:`fusion.fuse.fuse`.
        strict: fail on a frame that cannot be used, instead of leaving it out.
        format: of the fused image, see :data:`fusion.outputs.FORMATS`; by default one that fits.
        maps: write the index of the frame that each pixel comes from, as numbers and in colours,
            and the confidence.
        steps: write each aligned frame with its guidance and boundary map.
        preview: write an animation of the aligned frames and the result.
    """

    order: str = "name"
    align: bool = True
    motion: str = "similarity"
    exposure: bool = True
    crop: bool = True
    memory: int | None = None
    strict: bool = False
    format: str | None = None
    maps: bool = False
    steps: bool = False
    preview: bool = False
