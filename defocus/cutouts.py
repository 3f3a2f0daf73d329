"""Write RGBA cut-outs of the objects of segmented photographs.

    python -m defocus.cutouts --photographs datasets/bsds500/images/train \\
        --segmentations datasets/bsds500/groundTruth/train --output cutouts/train

Each cut-out is ``<photograph>__<k>.png``, cropped to the object plus a margin; under alpha 0 the
PNG keeps the extended foreground colours. ``cutouts.json`` tells for each where it came from, and
what was skipped and why. Run it again to resume.
"""

from __future__ import annotations

import json
import multiprocessing
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from defocus.matting import Foreground, Unusable
from defocus.segments import SegmentedPhotographs
from defocus.sources import skip_report
from utils.atomic import atomic_path, clear
from utils.cores import cores
from utils.errors import UserError, cli, option_parser
from utils.workers import end_with_parent


def write_cutout(path: Path, foreground: Foreground) -> None:
    """Write straight (not premultiplied) 8-bit RGBA.

    Raises:
        UserError: the file cannot be written.
    """
    alpha = np.rint(foreground.alpha * 255).astype(np.uint8)
    image = np.dstack([foreground.color[..., ::-1], alpha])
    with atomic_path(path) as temporary:
        encoded, data = cv2.imencode(".png", image)
        if not encoded:
            raise UserError(f"cannot encode {path}")
        temporary.write_bytes(data)


def _cut(source: SegmentedPhotographs, index: int, path: Path) -> dict:
    """Write one cut-out; its entry in the manifest."""
    photograph, name = source.photographs[index], source.names[index]
    entry = {"photograph": photograph, "segment": int(name.rsplit("__", 1)[1])}
    try:
        foreground = source[index]
    except Unusable as reason:
        return entry | {"skipped": str(reason)}
    write_cutout(path, foreground)
    area = round(float(foreground.alpha.sum()))
    return entry | {"estimator": foreground.estimator, "area": area}


def make_cutouts(source: SegmentedPhotographs, output: Path, workers: int) -> dict:
    """Write every cut-out of ``source`` that is not there yet; return the manifest.

    Raises:
        UserError: ``output`` cannot be written, or its manifest cannot be read.
    """
    manifest_path = output / "cutouts.json"
    done = _read_manifest(manifest_path)

    def finished(name: str) -> bool:
        return name in done and ("skipped" in done[name] or (output / f"{name}.png").exists())

    entries = {name: done[name] for name in source.names if finished(name)}
    todo = [index for index, name in enumerate(source.names) if name not in entries]
    # Spawned: numba's and OpenCV's thread pools do not survive a fork.
    context = multiprocessing.get_context("spawn")
    clear(output)
    try:
        with ProcessPoolExecutor(workers, context, end_with_parent) as pool:
            jobs = {}
            for index in todo:
                name = source.names[index]
                one = source.only({source.photographs[index]})
                job = pool.submit(_cut, one, one.names.index(name), output / f"{name}.png")
                jobs[job] = name
            try:
                for job in tqdm(as_completed(jobs), total=len(jobs), unit="cut-out"):
                    entries[jobs[job]] = job.result()
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
    finally:  # an interrupted run remembers what it has judged
        manifest = {
            "cutouts": {name: entries[name] for name in sorted(entries)},
            "skipped_photographs": source.skipped,
        }
        with atomic_path(manifest_path) as temporary:
            temporary.write_text(json.dumps(manifest, indent=1, ensure_ascii=False) + "\n")
    return manifest


def _read_manifest(path: Path) -> dict:
    try:
        return json.loads(path.read_bytes())["cutouts"] if path.exists() else {}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is damaged ({error!r}); delete it to start again") from error


@cli
def main(arguments: list[str] | None = None) -> None:
    parser = option_parser(__doc__)
    parser.add_argument("--photographs", required=True, type=Path, help="folder of images")
    parser.add_argument(
        "--segmentations",
        required=True,
        type=Path,
        help="folder of BSDS500 .mat files or of mask PNGs, or a COCO instances json",
    )
    parser.add_argument("--output", required=True, type=Path, help="folder for the cut-outs")
    parser.add_argument(
        "--workers", type=int, default=cores(), help="processes (default: %(default)s)"
    )
    options = parser.parse_args(arguments)
    if options.workers < 1:
        raise UserError("--workers must be at least 1")

    source = SegmentedPhotographs(options.photographs, options.segmentations)
    print(f"{len(source)} segments of {len(set(source.photographs))} photographs;", end=" ")
    print(f"photographs {skip_report(source)}", flush=True)
    manifest = make_cutouts(source, options.output, options.workers)
    skipped = [e["skipped"].split(":")[0] for e in manifest["cutouts"].values() if "skipped" in e]
    print(f"{len(manifest['cutouts']) - len(skipped)} cut-outs in {options.output}", end="")
    counts = ", ".join(f"{count} {kind}" for kind, count in Counter(skipped).most_common())
    print(f"; skipped {len(skipped)} segments: {counts}" if skipped else "")


if __name__ == "__main__":
    raise SystemExit(main())
