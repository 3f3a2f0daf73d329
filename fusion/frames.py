"""Frames of a stack read from their files, one at a time, with one frame of read-ahead."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from fusion.stack_files import Stack
from utils.errors import UserError
from utils.images import Metadata, Photo, read_photo


class BrokenFrame(UserError):
    """A frame that cannot be decoded."""

    def __init__(self, number: int, message: str):
        super().__init__(message)
        self.number = number


class Frames(Sequence[np.ndarray]):
    """The frames of a stack for :func:`fusion.fuse.fuse`; a context manager.

    Each access starts reading the next frame in a thread. No other frame is kept.

    Attributes:
        metadata: of the first frame, None until it is read.
        transparent: whether any frame read so far has an alpha plane.
    """

    def __init__(self, stack: Stack):
        self.stack = stack
        self.metadata: Metadata | None = None
        self.transparent = False
        self._reader = ThreadPoolExecutor(1, "reader")
        self._ahead: dict[int, Future[Photo]] = {}

    def __enter__(self) -> Frames:
        return self

    def __exit__(self, *error: object) -> None:
        self._reader.shutdown(cancel_futures=True)

    def __len__(self) -> int:
        return len(self.stack.frames)

    def __getitem__(self, number: int) -> np.ndarray:
        """A frame, (H, W, 3) uint8, uint16 or float32; raises BrokenFrame if it is not decoded."""
        return widen(self.photo(number).rgb, self.stack.dtype)

    def photo(self, number: int) -> Photo:
        """A frame as its file has it; raises :class:`BrokenFrame` likewise."""
        if not 0 <= number < len(self):
            raise IndexError(number)
        reading = self._ahead.pop(number, None) or self._read(number)
        try:
            photo = reading.result()
        except UserError as error:
            raise BrokenFrame(number, str(error)) from error
        following = number + 1
        self._ahead = {i: future for i, future in self._ahead.items() if i == following}
        if following < len(self) and not self._ahead:
            self._ahead[following] = self._read(following)
        self.transparent |= photo.alpha is not None
        if number == 0:
            self.metadata = photo.metadata
        return photo

    def _read(self, number: int) -> Future[Photo]:
        frame = self.stack.frames[number]
        return self._reader.submit(read_photo, frame.path, frame.page)


def widen(image: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """An 8-bit image as a 16-bit one of the same brightness; other images are unchanged."""
    if image.dtype == np.uint8 and dtype == np.uint16:
        return image.astype(np.uint16) * np.uint16(257)
    return image
