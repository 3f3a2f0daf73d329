"""Photographs with segmentations (BSDS500 ``.mat``, COCO instances json, mask PNGs) as foregrounds.

Not every segment could stand in front of another scene: sky, ground and gaps are segments too.
Those are kept whose size, shape, place in the frame and contrast at the edge are an object's, at
most two of a photograph.
"""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import scipy.io
from scipy import ndimage

from defocus.matting import Unusable
from defocus.sources import check_sharp, images_in, photograph_of, read_image, sharpness
from utils.errors import UserError, os_errors

AREA = (0.04, 0.60)  # share of the frame
FRAME_EDGES = 2  # of four that an object may touch
ON_FRAME = 0.28  # share of its perimeter that may lie on the frame
SOLIDITY = 0.6  # area over the area of the convex hull
ROUNDNESS = 0.12  # 4π·area / perimeter² (1 for a disk)
CONTRAST = 12.0  # CIE76 ΔE between the two sides of the edge ...
CONTRASTED = 0.6  # ... on at least this share of it
FLAT = 0.05  # least sharpness relative to the photograph: less is sky or out of focus
PER_PHOTOGRAPH = 2


def read_bsds(path: Path, _shape: tuple[int, int] = (0, 0)) -> list[np.ndarray]:
    """Segments of a BSDS500 ``.mat``, bool (H, W): those of the annotator who drew the fewest,
    which are objects rather than their parts. Raises :class:`Unusable` for a damaged file."""
    try:
        truths = scipy.io.loadmat(path)["groundTruth"]
        maps = [np.asarray(truth["Segmentation"][0, 0]) for truth in truths.ravel()]
    except KeyError as error:
        raise Unusable(f"unreadable: no {error} in {path.name}") from error
    except Exception as error:  # scipy raises whatever a damaged file leads it to
        raise Unusable(f"unreadable: {path.name} is damaged ({error})") from error
    maps = [labels for labels in maps if labels.ndim == 2 and len(np.unique(labels)) > 1]
    labels = min(maps, key=lambda labels: len(np.unique(labels)), default=np.empty(0))
    return [labels == label for label in np.unique(labels)]


def decode_coco(segmentation, height: int, width: int) -> np.ndarray:
    """The mask, bool (H, W), of a COCO annotation: polygons, or a run-length code; raises
    :class:`Unusable` if that is compressed, broken or does not fill the frame."""
    try:
        if isinstance(segmentation, dict):
            counts = segmentation.get("counts")
            if not isinstance(counts, list):
                raise Unusable("compressed: only uncompressed run-length codes are read")
            if segmentation.get("size") != [height, width] or sum(counts) != height * width:
                raise Unusable("unreadable: the run-length code does not fill the frame")
            runs = np.arange(len(counts)) % 2 == 1
            return np.repeat(runs, counts).reshape(width, height).T  # runs go down the columns
        mask = np.zeros((height, width), np.uint8)
        for polygon in segmentation:
            # COCO puts pixel (0, 0) on [0, 1)²; fillPoly takes pixel centres, here in 1/16 px.
            points = (np.reshape(polygon, (-1, 2)) - 0.5) * 16
            cv2.fillPoly(mask, [np.rint(points).astype(np.int32)], 1, shift=4)
        return mask.astype(bool)
    except (TypeError, ValueError, cv2.error) as error:
        raise Unusable("unreadable: neither polygons nor a run-length code") from error


def boundary_contrast(lab: np.ndarray, mask: np.ndarray) -> float:
    """Share of the segment's edge inside the frame whose two sides differ by ΔE > 12; ``lab`` is
    (H, W, 3) float32 CIE Lab, ``mask`` (H, W) bool."""

    def mean(side: np.ndarray) -> np.ndarray:
        weight = side.astype(np.float32)
        total = cv2.blur(lab * weight[..., None], (15, 15))
        return total / np.maximum(cv2.blur(weight, (15, 15)), 1e-6)[..., None]

    edge = mask & ~ndimage.binary_erosion(mask, border_value=1)
    difference = np.linalg.norm(mean(mask) - mean(~mask), axis=2)
    return float((difference[edge] > CONTRAST).mean()) if edge.any() else 0.0


def object_score(lab: np.ndarray, mask: np.ndarray) -> float:
    """How much of an object a connected mask is, in [0, 1]: contrast × solidity; raises
    :class:`Unusable` with the criterion that fails. ``lab`` is (H, W, 3) float32 CIE Lab."""
    share = mask.mean()
    if not AREA[0] <= share <= AREA[1]:
        raise Unusable(f"size: {share:.1%} of the frame")
    borders = (mask[0], mask[-1], mask[:, 0], mask[:, -1])
    top, _, left, right = touched = [border.mean() > 0.02 for border in borders]
    on_frame = sum(np.count_nonzero(border) for border in borders)
    outlines = cv2.findContours(np.uint8(mask), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)[0]
    contour = max(outlines, key=cv2.contourArea)
    perimeter = cv2.arcLength(contour, closed=True)
    if sum(touched) > FRAME_EDGES or (left and right) or on_frame > ON_FRAME * perimeter:
        raise Unusable(f"cropped: lies on {sum(touched)} frame edges")
    if top and mask[0].mean() > 1 / 3:
        raise Unusable("sky: lies along the top of the frame")
    area = np.count_nonzero(mask)
    solidity = area / max(cv2.contourArea(cv2.convexHull(contour)), area)
    if solidity < SOLIDITY or 4 * np.pi * area / perimeter**2 < ROUNDNESS:
        raise Unusable(f"ragged: solidity {solidity:.2f}")
    contrast = boundary_contrast(lab, mask)
    if contrast < CONTRASTED:
        raise Unusable(f"faint: {contrast:.0%} of the edge has contrast")
    return contrast * solidity


def choose_objects(image: np.ndarray, masks: list[np.ndarray]) -> list[np.ndarray]:
    """The object-like segments of a photograph (H, W, 3) uint8 sRGB, best first, at most two: of
    each mask, (H, W) bool, the largest connected piece. Raises :class:`Unusable` if there is none,
    with the reason that most of them share."""
    lab = cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    whole = sharpness(image)
    scored, reasons = [], []
    for mask in masks:
        if mask.shape != image.shape[:2]:
            raise Unusable(f"mismatched: image {image.shape[:2]}, segment {mask.shape}")
        labels, pieces = ndimage.label(mask)
        if pieces > 1:
            mask = labels == 1 + np.argmax(np.bincount(labels.ravel())[1:])
        mask = ndimage.binary_fill_holes(mask) if mask.mean() >= AREA[0] / 2 else mask
        try:
            score = object_score(lab, mask)
            core = ndimage.binary_erosion(mask, iterations=3)
            check_sharp(image, core)
            if sharpness(image, core) < FLAT * whole:
                raise Unusable("flat: next to no detail beside the rest of the photograph")
            scored.append((score, mask))
        except Unusable as reason:
            reasons.append(str(reason).split(":")[0])
    if not scored:
        common = max(set(reasons), key=reasons.count) if reasons else "none"
        raise Unusable(f"no object: of {len(masks)} segments most fail by {common}")
    best = sorted(scored, key=lambda pair: -pair[0])[:PER_PHOTOGRAPH]
    return [mask for _, mask in best]


# From the shape (H, W) of a photograph to the masks of its segments.
Reader = Callable[[tuple[int, int]], list[np.ndarray]]


def readers(source: Path) -> dict[str, Reader]:
    """By stem of the photograph, what reads its segments. ``source`` is a COCO instances json, or a
    folder of BSDS500 ``.mat`` files or of masks (``<photograph>.png``, ``<photograph>__<k>.png``;
    brighter than half of the maximum is object). Raises :class:`UserError` if there is nothing."""
    if source.suffix.lower() == ".json":
        return {stem: partial(_decode, codes) for stem, codes in _coco_codes(source).items()}
    if not source.is_dir():
        raise UserError(f"no folder or COCO json {source}")
    if mats := sorted(source.glob("*.mat")):
        return {path.stem: partial(read_bsds, path) for path in mats}
    grouped: dict[str, list[Path]] = {}
    for path in images_in(source):
        grouped.setdefault(photograph_of(path), []).append(path)
    return {stem: partial(_read_masks, paths) for stem, paths in grouped.items()}


def _decode(codes: list, shape: tuple[int, int]) -> list[np.ndarray]:
    return [decode_coco(code, *shape) for code in codes]


def _read_masks(paths: list[Path], _shape: tuple[int, int]) -> list[np.ndarray]:
    masks = [read_image(path, cv2.IMREAD_GRAYSCALE) for path in paths]
    return [mask > mask.max() / 2 for mask in masks]


def _coco_codes(path: Path) -> dict[str, list]:
    """The segmentations of each photograph, by its stem."""
    with os_errors(f"read {path}"):
        text = path.read_bytes()
    try:
        document = json.loads(text)
        names = {image["id"]: Path(image["file_name"]).stem for image in document["images"]}
        grouped: dict[str, list] = {}
        for annotation in document["annotations"]:
            if not annotation.get("iscrowd"):
                segmentation = annotation["segmentation"]
                grouped.setdefault(names[annotation["image_id"]], []).append(segmentation)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path} is not a COCO instances json ({error!r})") from error
    return grouped
