"""Options of the command line that concern fusing and the files written."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Options:
    """Options of one run; ``align`` to ``memory`` as in :func:`fusion.fuse.fuse`."""

    order: str = "name"  # of the frames: "name", "time" or "focus"
    align: bool = True
    motion: str = "similarity"
    exposure: bool = True
    crop: bool = True
    memory: int | None = None
    strict: bool = False  # fail on a frame that cannot be used, instead of leaving it out
    format: str | None = None  # of :data:`fusion.outputs.FORMATS`; by default a lossless one
    maps: bool = False  # write index and confidence of each pixel
    steps: bool = False  # write each aligned frame with its guidance and boundary map
    preview: bool = False  # write an animation of the aligned frames and the result
