"""Generated pairs with ground truth on disk, so that any program can fuse them.

The validation set of a run, by its seed: ``sources/NAME-A.png`` and ``NAME-B.png``,
``truth/NAME.png``, ``band/NAME.png`` (white in the FDB, where no source is right), and the
baselines: each source as it is, and oracle selection.
"""

import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from tqdm import tqdm

from configs.schema import load_config
from data.build import validation_sets
from data.datasets import in_order
from defocus.camera import quantize
from training.validation import oracle_selection
from utils.atomic import write_file
from utils.images import write_png

BASELINES = {"source A": "source-a", "source B": "source-b", "oracle selection": "oracle"}
GENERATOR = Path(__file__).parents[1] / "defocus"


def write_set(config_file: str | Path, overrides: Sequence[str], folder: Path) -> Path:
    """Generate the validation set of a config, with overrides as for ``main.py``, unless the folder
    holds the same one already; another one is deleted. Raises :class:`~utils.errors.UserError` for
    a wrong config, or without photographs to generate from."""
    config = load_config(config_file, overrides)
    count = config.validation.samples
    chosen = config.validation if config.validation.photographs else config.data
    code = b"".join(path.read_bytes() for path in sorted(GENERATOR.glob("*.py")))
    manifest = {
        "samples": count,
        "validation": asdict(config.validation),
        "photographs": _listing(chosen.photographs),
        "cutouts": _listing(chosen.cutouts),
        "generator": hashlib.sha256(code).hexdigest(),
    }
    former, text = folder / "manifest.json", json.dumps(manifest, indent=1)
    if former.exists() and former.read_text(encoding="utf-8") == text:
        return folder
    dataset = validation_sets(config, count)["pairs"]
    former.unlink(missing_ok=True)  # first: a set that is half deleted is none
    for name in ("sources", "truth", "band", *BASELINES.values()):
        shutil.rmtree(folder / name, ignore_errors=True)
    batches = in_order(dataset, 1, config.data.workers)
    bar = {"total": count, "unit": "sample", "desc": "validation set", "disable": None}
    for number, batch in enumerate(tqdm(batches, **bar)):
        pair, truth = quantize(batch.photographs), quantize(batch.truth)  # as in a file
        (a, b), oracle = pair[0], oracle_selection(pair, truth)[0]
        band = (batch.guidance[0, 0] == 0.5).float()
        name = f"sample-{number:04d}"
        files = {f"sources/{name}-A": a, f"sources/{name}-B": b, f"truth/{name}": truth[0]}
        files |= {f"source-a/{name}": a, f"source-b/{name}": b, f"oracle/{name}": oracle}
        for path, image in (files | {f"band/{name}": band}).items():
            write_png(folder / f"{path}.png", image.permute(1, 2, 0).squeeze(2).numpy())
    write_file(former, text)
    return folder


def _listing(folder: str | None) -> list[str] | None:
    """A folder with the hash of its files' names and sizes; broken links are no files."""
    if not folder:
        return None
    found = filter(Path.exists, Path(folder).rglob("*.*"))
    files = [(str(p.relative_to(folder)), p.stat().st_size) for p in found]
    return [folder, hashlib.sha256(repr(sorted(files)).encode()).hexdigest()]
