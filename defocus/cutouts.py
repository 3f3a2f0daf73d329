"""Write RGBA cut-outs of the objects of segmented photographs.

    python -m defocus.cutouts --photographs datasets/bsds500/images/train \\
        --segmentations datasets/bsds500/groundTruth/train --output cutouts/train

Each cut-out is ``<photograph>__<k>.png``, cropped to the object plus a margin; under alpha 0 the
PNG keeps the extended foreground colours. ``cutouts.json`` says where each came from, and what was
skipped and why. Run it again to resume.
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

from defocus.matting import Unusable
from defocus.segments import Segment, SegmentedPhotographs
from defocus.sources import skip_report
from utils.atomic import atomic_path, clear
from utils.errors import UserError, cli, option_parser
from utils.process import cores, end_with_parent


def _cut(segment: Segment, path: Path) -> dict:
    """Write one cut-out as straight (not premultiplied) 8-bit RGBA; its entry in the manifest."""
    entry = {"photograph": segment.photograph, "segment": segment.number}
    try:
        foreground = segment.cut_out()
    except Unusable as reason:
        return entry | {"skipped": str(reason)}
    alpha = np.rint(foreground.alpha * 255).astype(np.uint8)
    image = np.dstack([foreground.color[..., ::-1], alpha])
    with atomic_path(path) as temporary:
        temporary.write_bytes(cv2.imencode(".png", image)[1])
    area = round(float(foreground.alpha.sum()))
    return entry | {"estimator": foreground.estimator, "area": area}


def make_cutouts(source: SegmentedPhotographs, output: Path, workers: int) -> dict:
    """Write every cut-out of ``source`` that is not there yet; return the manifest."""
    manifest_path = output / "cutouts.json"
    try:
        found = manifest_path.read_bytes() if manifest_path.exists() else b'{"cutouts": {}}'
        done = json.loads(found)["cutouts"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        message = f"{manifest_path} is damaged ({error!r}); delete it to start again"
        raise UserError(message) from error
    paths = {segment.name: output / f"{segment.name}.png" for segment in source.segments}
    entries = {
        name: done[name]
        for name, path in paths.items()
        if name in done and ("skipped" in done[name] or path.exists())
    }
    # Spawned: numba's and OpenCV's thread pools do not survive a fork.
    context = multiprocessing.get_context("spawn")
    clear(output)
    try:
        with ProcessPoolExecutor(workers, context, end_with_parent) as pool:
            jobs = {
                pool.submit(_cut, segment, paths[segment.name]): segment.name
                for segment in source.segments
                if segment.name not in entries
            }
            try:
                for job in tqdm(as_completed(jobs), total=len(jobs), unit="cut-out"):
                    entries[jobs[job]] = job.result()
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
    finally:  # an interrupted run remembers what it has judged
        manifest = {
            "cutouts": dict(sorted(entries.items())),
            "skipped_photographs": source.skipped,
        }
        with atomic_path(manifest_path) as temporary:
            temporary.write_text(json.dumps(manifest, indent=1, ensure_ascii=False) + "\n")
    return manifest


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
    photographs = {segment.photograph for segment in source.segments}
    print(f"{len(source)} segments of {len(photographs)} photographs;", end=" ")
    print(f"photographs {skip_report(source)}", flush=True)
    manifest = make_cutouts(source, options.output, options.workers)
    skipped = [e["skipped"].split(":")[0] for e in manifest["cutouts"].values() if "skipped" in e]
    print(f"{len(manifest['cutouts']) - len(skipped)} cut-outs in {options.output}", end="")
    counts = ", ".join(f"{count} {kind}" for kind, count in Counter(skipped).most_common())
    print(f"; skipped {len(skipped)} segments: {counts}" if skipped else "")


if __name__ == "__main__":
    raise SystemExit(main())
