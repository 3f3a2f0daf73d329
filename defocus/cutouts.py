"""Write RGBA cut-outs of the objects of segmented photographs.

    python -m defocus.cutouts --photographs datasets/bsds500/images/train \\
        --segmentations datasets/bsds500/groundTruth/train --output cutouts/train

Each cut-out is ``<photograph>__<k>.png``, cropped to the object plus a margin; under alpha 0 the
PNG keeps the extended foreground colours. ``cutouts.json`` says where each came from, and what was
skipped and why. Run it again to resume; other photographs add to what is there.
"""

import hashlib
import json
import multiprocessing
from collections import defaultdict
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import repeat
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from defocus.matting import Unusable, matte_from_segment
from defocus.segments import Reader, choose_objects, readers
from defocus.sources import images_in, read_image, skip_report, tally
from utils.atomic import clear, write_file, write_json
from utils.errors import UserError, cli, option_parser, os_errors
from utils.process import cores, end_with_parent


def cut_out(path: Path, read: Reader, output: Path) -> dict[str, dict] | str:
    """Write the objects of a photograph as straight (not premultiplied) 8-bit RGBA; return their
    entries in the manifest, by name, or why there are none."""
    try:
        image = read_image(path)
        masks = choose_objects(image, read(image.shape[:2]))
    except Unusable as reason:
        return str(reason)
    entries: dict[str, dict] = {}
    digest = _hash(path)
    for number, mask in enumerate(masks):
        name = f"{path.stem}__{number}"
        entry = entries[name] = {"photograph": path.stem, "segment": number, "sha256": digest}
        try:
            foreground = matte_from_segment(image, mask, photograph=path.stem)
        except Unusable as reason:
            entry["skipped"] = str(reason)
            continue
        alpha = np.rint(foreground.alpha * 255).astype(np.uint8)
        pixels = np.dstack([foreground.color[..., ::-1], alpha])
        write_file(output / f"{name}.png", cv2.imencode(".png", pixels)[1].tobytes())
        area = round(float(foreground.alpha.sum()))
        entry |= {"estimator": foreground.kind, "area": area}
    return entries


def make_cutouts(photographs: Path, segmentations: Path, output: Path, workers: int) -> dict:
    """Write every cut-out that is not there yet; return the manifest. Raises :class:`UserError` if
    there is nothing to read, no usable segment, two photographs of one name (one of them perhaps of
    a former run), or a damaged manifest, or a worker was killed."""
    manifest = output / "cutouts.json"
    done = _judged(manifest)
    images, segments = images_in(photographs), readers(segmentations)
    named: dict[str, Path] = {}
    for path in images:
        if (other := named.setdefault(path.stem, path)) is not path:
            raise UserError(f"{other} and {path} would give cut-outs of one name; rename one")
    entries: dict[str, dict] = {}
    skipped: dict[str, str] = {}
    clear(output)
    # Spawned: numba's and OpenCV's thread pools do not survive a fork.
    context = multiprocessing.get_context("spawn")
    todo = []
    for path in images:
        known = done.pop(path.stem, {})
        # Manifests of former versions have no hash.
        former = {entry["sha256"] for entry in known.values() if "sha256" in entry}
        if former and former != {_hash(path)}:
            way = "choose another --output, or rename one of the photographs"
            raise UserError(f"{output} has {min(known)} of another {path.stem} than {path}; {way}")
        if path.stem not in segments:
            skipped[str(path)] = "unsegmented: no segmentation of this photograph"
        elif known and all(
            "skipped" in entry or (output / f"{name}.png").exists() for name, entry in known.items()
        ):
            entries |= known
        else:
            todo.append(path)
    try:
        with ProcessPoolExecutor(workers, context, end_with_parent) as pool:
            results = pool.map(cut_out, todo, [segments[p.stem] for p in todo], repeat(output))
            results = tqdm(results, total=len(todo), unit="photograph")
            for path, result in zip(todo, results, strict=True):
                if isinstance(result, str):
                    skipped[str(path)] = result
                else:
                    entries |= result
        if not entries:
            raise UserError(f"no usable segments in {segmentations}: {skip_report(skipped, 0)}")
    except BrokenProcessPool as error:
        killed = "a worker process was killed, perhaps for lack of memory"
        raise UserError(f"{killed}; the same command with fewer --workers goes on") from error
    finally:  # an interrupted run remembers what it has judged
        for known in done.values():  # of photographs in other folders
            entries |= known
        sections = {"cutouts": entries, "skipped_photographs": skipped}
        judged = {section: dict(sorted(found.items())) for section, found in sections.items()}
        write_json(manifest, judged)
    return judged


def _hash(path: Path) -> str:
    with os_errors(f"read {path}"):
        return hashlib.sha256(path.read_bytes()).hexdigest()


def _judged(manifest: Path) -> dict[str, dict[str, dict]]:
    """The entries of the manifest of a former run, by photograph, then by name."""
    done: dict[str, dict[str, dict]] = defaultdict(dict)
    try:
        found = manifest.read_bytes() if manifest.exists() else b'{"cutouts": {}}'
        for name, entry in json.loads(found)["cutouts"].items():
            done[entry["photograph"]][name] = entry
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        message = f"{manifest} is damaged ({error!r}); delete it to start again"
        raise UserError(message) from error
    return done


@cli
def main(arguments: list[str] | None = None) -> None:
    parser = option_parser(__doc__)
    parser.add_argument("--photographs", required=True, type=Path, help="folder of images")
    wanted = "folder of BSDS500 .mat files or of mask PNGs, or a COCO instances json"
    parser.add_argument("--segmentations", required=True, type=Path, help=wanted)
    parser.add_argument("--output", required=True, type=Path, help="folder for the cut-outs")
    parser.add_argument("--workers", type=int, default=cores(), help="default: one per core")
    options = parser.parse_args(arguments)
    if options.workers < 1:
        raise UserError("--workers must be at least 1")

    judged = make_cutouts(**vars(options))
    entries = judged["cutouts"]
    photographs = {entry["photograph"] for entry in entries.values()}
    report = skip_report(judged["skipped_photographs"], len(photographs))
    print(f"{len(entries)} segments of {len(photographs)} photographs; photographs {report}")
    skipped = [entry["skipped"] for entry in entries.values() if "skipped" in entry]
    more = f"; skipped {len(skipped)} segments: {tally(skipped)}" if skipped else ""
    print(f"{len(entries) - len(skipped)} cut-outs in {options.output}{more}")


if __name__ == "__main__":
    raise SystemExit(main())
