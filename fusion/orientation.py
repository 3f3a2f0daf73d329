"""Which way up the frames of a stack are.

A camera that points down or up, as on a copy stand or a microscope, cannot tell how it is held, and
notes one orientation (EXIF) now and another then, though it has not moved.
"""

import contextlib
from typing import TYPE_CHECKING

import cv2
import numpy as np

from utils.errors import UserError
from utils.formats.photo import turn_back, turn_upright
from utils.images import read_photo

if TYPE_CHECKING:
    from fusion.stack_files import Frame

SIDE = 32  # pixels of what is compared: at this size, focus makes hardly a difference
ALIKE = 0.5  # correlation of frames of one scene, at least


def turn_alike(frames: "list[Frame]") -> "list[Frame]":
    """The frames, with the orientation of the first one where they have others of their own and
    the content of the first such frame says that the camera did not turn."""
    first = frames[0].probe.orientation
    alike = [
        frame._replace(probe=frame.probe.turn(first), turned=frame.probe.orientation != first)
        for frame in frames
    ]
    other = next((number for number, frame in enumerate(alike) if frame.turned), None)
    if other is None or len({frame.size for frame in alike}) > 1:
        return frames
    with contextlib.suppress(UserError):  # a frame that is broken is named when it is fused
        expected, found = (_look_at(frames[number]) for number in (0, other))
        turned = turn_upright(turn_back(found, frames[other].probe.orientation), first)
        if (expected * turned).sum() > max((expected * found).sum(), ALIKE):
            return alike
    return frames


def _look_at(frame: "Frame") -> np.ndarray:
    """A few grey pixels of a frame (SIDE, SIDE), of mean 0 and length 1."""
    image = read_photo(frame.path, frame.page).rgb
    small = cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_AREA).mean(2)
    small -= small.mean()
    return small / (np.linalg.norm(small) or 1)
