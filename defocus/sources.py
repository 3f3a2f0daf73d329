"""Where the layers of a sample come from: photographs for backgrounds, mattes for foregrounds.

Every source checks its files once, when it is made, and skips what is unreadable, tiny or blurred,
keeping the reason. Items carry the stem of the photograph they came from, which is what splits
are made by: ``train = source.only(train_photographs)``.
"""

import copy
import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

import cv2
import numpy as np
from tqdm import tqdm

from defocus.matting import Foreground, Unusable, estimate_colors, extend_colors
from utils.errors import UserError

EXTENSIONS = {".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp"}
# Variance of the Laplacian of 8-bit luma, the picture brought to at most ``LONGEST``. No BSDS500
# photograph is below 66, 99 % are above 130; blurred by σ = 2 px, 99 % of them are below 29.
BLURRED = 40.0
TINY_PHOTOGRAPH = 128  # px, shorter side
TINY_OBJECT = 48  # px, shorter side of the extent of alpha > 0.5
LONGEST = 1024  # px: larger images are reduced to this longer side

T = TypeVar("T", np.ndarray, Foreground)


def tally(reasons: Iterable[str]) -> str:
    """The kinds of reasons and their number, such as ``2 unreadable, 1 tiny``."""
    kinds = Counter(reason.split(":")[0] for reason in reasons)
    return ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())


def skip_report(skipped: dict[str, str], used: int) -> str:
    """One line such as ``skipped 3 of 200: 2 unreadable, 1 tiny`` (or ``skipped 0 of 200``)."""
    line = f"skipped {len(skipped)} of {used + len(skipped)}"
    return f"{line}: {tally(skipped.values())}" if skipped else line


def read_image(path: Path, flags: int = cv2.IMREAD_COLOR) -> np.ndarray:
    """Decode a file: (H, W, 3) RGB, (H, W, 4) RGBA or (H, W) grey uint8, by OpenCV's flags; raises
    :class:`Unusable` if it is missing, not an image, or cut short."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise Unusable(f"unreadable: {error.strerror}") from error
    # Decoders fill the rest of a cut-off file with grey and say nothing, so look for its end.
    end = {b"\xff\xd8": b"\xff\xd9", b"\x89P": b"IEND"}.get(data[:2])
    if end is not None and end not in data[-4096:] and end not in data[_pixels(data) :]:
        raise Unusable("unreadable: the file is cut short")
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags) if data else None
    except cv2.error:
        image = None
    if image is None:
        raise Unusable("unreadable: not an image" if data else "unreadable: empty file")
    if image.dtype == np.uint16:
        image = (image / 257.0 + 0.5).astype(np.uint8)
    if image.dtype != np.uint8:
        raise Unusable(f"unreadable: {image.dtype} pixels")
    if image.ndim == 2:
        return image
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB if image.shape[2] == 3 else cv2.COLOR_BGRA2RGBA)


def _pixels(data: bytes) -> int:
    """Where the pixels of a JPEG begin: before them a thumbnail may end, after them a video; 2 in
    files of other types."""
    at = 2
    while data[at : at + 1] == b"\xff" and data[at + 1 : at + 2] != b"\xda":
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return at


def _reduce(*images: np.ndarray) -> Sequence[np.ndarray]:
    """Images of one size, the longer side at most ``LONGEST``; raises :class:`Unusable` if nothing
    would be left of the shorter one."""
    height, width = images[0].shape[:2]
    scale = LONGEST / max(height, width)
    if scale >= 1:
        return images
    if min(height, width) * scale < 1:
        raise Unusable(f"tiny: {width}×{height} px")
    how = {"fx": scale, "fy": scale, "interpolation": cv2.INTER_AREA}
    return [cv2.resize(x, None, **how) for x in images]


def sharpness(image: np.ndarray, where: np.ndarray | None = None) -> float:
    """Variance of the Laplacian of the luma, over ``where`` (bool, (H, W)) or everywhere."""
    (luma,) = _reduce(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY))
    if where is not None and where.shape != luma.shape:
        where = cv2.resize(where.astype(np.uint8), luma.shape[::-1]).astype(bool)
    laplacian = cv2.Laplacian(luma, cv2.CV_32F)[slice(None) if where is None else where]
    return float(laplacian.var()) if laplacian.size else 0.0


def check_sharp(image: np.ndarray, where: np.ndarray | None = None) -> None:
    """Raise :class:`Unusable` where the picture (or the part ``where``) is blurred."""
    if (value := sharpness(image, where)) < BLURRED:
        raise Unusable(f"blurred: variance of the Laplacian {value:.0f}, below {BLURRED:.0f}")


def photograph_of(path: Path) -> str:
    """The photograph that a file ``<photograph>__<k>.png`` or ``<photograph>.png`` is a part of."""
    return re.sub(r"__\d+$", "", path.stem)


def images_in(folder: Path) -> list[Path]:
    """The image files below a folder, sorted, without hidden ones and those in hidden folders; a
    :class:`UserError` where there are none."""
    if not folder.is_dir():
        raise UserError(f"no folder {folder}")
    found = (p for p in folder.rglob("[!.]*") if p.suffix.lower() in EXTENSIONS)
    paths = sorted(p for p in found if "/." not in f"/{p.relative_to(folder).as_posix()}")
    if not paths:
        raise UserError(f"no images in {folder} (wanted: {' '.join(sorted(EXTENSIONS))})")
    return paths


class Source(ABC, Generic[T]):
    """Items read from files, checked when the source is made. ``files`` are (photograph, paths of
    the item), the first path naming the item; ``memory`` is bytes of decoded items to keep, the
    others are decoded at each access. Raises :class:`UserError` if nothing usable is left."""

    def __init__(self, files: list[tuple[str, tuple[Path, ...]]], memory: int = 1 << 30):
        self.skipped: dict[str, str] = {}
        self._kept: dict[tuple[Path, ...], T] = {}
        self._files = []
        for photograph, paths in tqdm(files, desc="checking images", delay=2, leave=False):
            try:
                item = self._load(photograph, *paths)
            except Unusable as reason:
                self.skipped[str(paths[0])] = str(reason)
                continue
            self._files.append((photograph, paths))
            if item.nbytes <= memory:
                self._kept[paths] = item
                memory -= item.nbytes
        if not self._files:
            beside = files[0][1][0]
            raise UserError(f"nothing usable beside {beside}: {skip_report(self.skipped, 0)}")

    @abstractmethod
    def _load(self, photograph: str, *paths: Path) -> T: ...

    @property
    def photographs(self) -> list[str]:
        """The split key of each item."""
        return [photograph for photograph, _ in self._files]

    @property
    def paths(self) -> list[Path]:
        """The image of each item; mattes beside it are left out."""
        return [paths[0] for _, paths in self._files]

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> T:
        """An item; raises :class:`UserError` if its files, read again, are no longer usable."""
        photograph, paths = self._files[index]
        if paths in self._kept:
            return self._kept[paths]
        try:
            return self._load(photograph, *paths)
        except Unusable as reason:
            raise UserError(f"{paths[0]} was usable before, but now is {reason}") from reason

    def only(self, photographs: Iterable[str]):
        """The items of these photographs, sharing what is in memory; may be empty."""
        wanted = set(photographs)
        part = copy.copy(self)
        part._files = [entry for entry in self._files if entry[0] in wanted]
        return part


# What the generator draws foregrounds from.
ForegroundSource = Source[Foreground]


class Photographs(Source[np.ndarray]):
    """Backgrounds: every image under a folder, (H, W, 3) uint8 sRGB."""

    def __init__(self, folder: str | Path, memory: int = 1 << 30):
        super().__init__([(path.stem, (path,)) for path in images_in(Path(folder))], memory)

    def _load(self, photograph: str, *paths: Path) -> np.ndarray:
        full = read_image(paths[0])
        (image,) = _reduce(full)  # before it is judged: at full size photographs look soft
        (height, width), (rows, columns) = image.shape[:2], full.shape[:2]
        if min(height, width) < TINY_PHOTOGRAPH:
            reduced = "" if image is full else f", reduced from {columns}×{rows}"
            size = f"{width}×{height} px{reduced}"
            raise Unusable(f"tiny: {size}, at least {TINY_PHOTOGRAPH} wanted")
        check_sharp(image)
        return image


def check_object(color: np.ndarray, alpha: np.ndarray) -> None:
    """Raise :class:`Unusable` if what alpha (H, W) uint8 covers is tiny or blurred."""
    solid = alpha > 127
    rows, columns = solid.any(axis=1).sum(), solid.any(axis=0).sum()
    if min(rows, columns) < TINY_OBJECT:
        raise Unusable(f"tiny: {columns}×{rows} px, at least {TINY_OBJECT} wanted")
    check_sharp(color, cv2.erode(solid.astype(np.uint8), np.ones((5, 5))).astype(bool))


def _own_colors(color: np.ndarray, alpha: np.ndarray, photograph: str) -> Foreground:
    """An object of its own colours (H, W, 3) where alpha (H, W) is not 0, both uint8. They are
    extended first: reduced, they would mix with what is hidden."""
    color, alpha = _reduce(extend_colors(color, alpha / 255), alpha)
    check_object(color, alpha)
    return Foreground(color, alpha.astype(np.float32) / 255, photograph)


class RGBACutouts(Source[Foreground]):
    """A folder of RGBA images, ``<photograph>__<k>.png`` or just ``<photograph>.png``."""

    def __init__(self, folder: str | Path):
        super().__init__([(photograph_of(p), (p,)) for p in images_in(Path(folder))])

    def _load(self, photograph: str, *paths: Path) -> Foreground:
        image = read_image(paths[0], cv2.IMREAD_UNCHANGED)
        if image.ndim != 3 or image.shape[2] != 4 or image[..., 3].min() == 255:
            raise Unusable("opaque: nothing of the image is transparent")
        return _own_colors(image[..., :3], image[..., 3], photograph)


class AlphaFolders(Source[Foreground]):
    """A folder of images and a folder of their grey mattes, paired by stem. The images are
    ``composited``, whole photographs whose foreground colours have to be estimated (AIM-500,
    AM-2K), or the foreground colours themselves (Adobe's ``fg``)."""

    def __init__(self, images: Path, alphas: Path, composited: bool):
        self.composited = composited
        mattes = {path.stem: path for path in images_in(alphas)}
        super().__init__([(p.stem, (p, mattes.get(p.stem))) for p in images_in(images)])

    def _load(self, photograph: str, *paths: Path | None) -> Foreground:
        if paths[1] is None:
            raise Unusable(f"unmatched: no matte {photograph}.* for {paths[0]}")
        color, alpha = read_image(paths[0]), read_image(paths[1], cv2.IMREAD_GRAYSCALE)
        if color.shape[:2] != alpha.shape:
            raise Unusable(f"mismatched: image {color.shape[:2]}, matte {alpha.shape}")
        if not self.composited:
            return _own_colors(color, alpha, photograph)
        color, alpha = _reduce(color, alpha)
        check_object(color, alpha)
        alpha = alpha.astype(np.float32) / 255
        return Foreground(estimate_colors(color, alpha), alpha, photograph)


def foregrounds(folder: str | Path) -> ForegroundSource:
    """The foregrounds of a folder: images with mattes beside them, or else RGBA cut-outs."""
    # Adobe; AIM-500, AM-2K
    for images, alphas, composited in (("fg", "alpha", False), ("original", "mask", True)):
        images, alphas = Path(folder, images), Path(folder, alphas)
        if images.is_dir() and alphas.is_dir():
            return AlphaFolders(images, alphas, composited)
    return RGBACutouts(folder)
