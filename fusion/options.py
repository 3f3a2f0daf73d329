"""Options of fusing stacks of files, and of what is written."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Options:
    """Options of the command line.

    Attributes:
        order: of the frames: "name", "time" or "focus".
        align, motion, exposure, crop, memory: see :func:`fusion.fuse.fuse`.
        strict: a frame that cannot be used stops the stack; otherwise it is left out.
        format: of the fused image, see :data:`fusion.outputs.FORMATS`; by default one that fits.
        maps: write the index of the frame that each pixel comes from, as numbers and in colours,
            and the confidence.
        steps: write each aligned frame and what was decided on it.
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
