"""The frames of a stack, read one ahead of their use."""

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager

import numpy as np

from fusion.stack_files import Stack
from utils.errors import UserError
from utils.images import Metadata, Photo, read_photo


class BrokenFrame(UserError):
    """A frame that cannot be decoded."""

    def __init__(self, number: int, message: str):
        super().__init__(message)
        self.number = number


class Frames(Sequence[np.ndarray], AbstractContextManager):
    """The frames of a stack for :func:`fusion.fuse.fuse`; a context manager.

    Each access starts reading the next frame in a thread. No other frame is kept.
    """

    def __init__(self, stack: Stack):
        self.stack = stack
        self.metadata: dict[int, Metadata] = {}  # of the frames read so far
        self.transparent = False  # whether any frame read so far is anywhere less than opaque
        self._reader = ThreadPoolExecutor(1, "reader")
        self._ahead: dict[int, Future[Photo]] = {}

    def __exit__(self, *error: object) -> None:
        self._reader.shutdown(cancel_futures=True)

    def __len__(self) -> int:
        return len(self.stack.frames)

    def __getitem__(self, number: int) -> np.ndarray:
        """A frame, (H, W, 3) uint8, uint16 or float32; raises BrokenFrame if it is not decoded."""
        return widen(self.photo(number).rgb, self.stack.dtype)

    def photo(self, number: int) -> Photo:
        """A frame as its file has it; raises likewise."""
        if not 0 <= number < len(self):
            raise IndexError(number)
        reading = self._ahead.get(number) or self._read(number)
        try:
            photo = reading.result()
        except UserError as error:
            raise BrokenFrame(number, str(error)) from error
        following = range(number + 1, len(self))[:1]
        self._ahead = {i: self._ahead.get(i) or self._read(i) for i in following}
        self.transparent |= photo.transparent
        self.metadata[number] = photo.metadata
        return photo

    def find_broken(self, numbers: Iterable[int]) -> Iterator[BrokenFrame]:
        """Read the frames of these numbers, unless they were read before; yields what fails."""
        for number in numbers:
            try:
                if number not in self.metadata:
                    self.photo(number)
            except BrokenFrame as error:
                yield error

    def _read(self, number: int) -> Future[Photo]:
        frame = self.stack.frames[number]
        return self._reader.submit(read_photo, frame.path, frame.page, frame.probe.orientation)


def widen(image: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """An 8-bit image as a 16-bit one of the same brightness; other images are unchanged."""
    if image.dtype == np.uint8 and dtype == np.uint16:
        return image.astype(np.uint16) * np.uint16(257)
    return image
