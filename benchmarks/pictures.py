"""Pictures of fused stacks, with insets at depth edges, beside other programs.

    python -m benchmarks.pictures --out docs/figures/stacks

All programs get the same frames, aligned by us, so that the same pixels can be compared. The insets
are where the first and the last frame meet and the results differ most.
"""

import re
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from benchmarks.measure import Failed
from benchmarks.report import folder
from benchmarks.tools import fuse_with
from drawing.canvas import save
from evaluation.figures import choose_insets, comparison
from evaluation.peers import Peer, choose_peers
from fusion.fuse import Step, fuse
from utils.errors import UserError, cli, option_parser
from utils.images import EXTENSIONS, read_photo, write_png

PEERS = ("FocusWeave", "enfuse")
Images = dict[str, np.ndarray]  # (H, W, 3) uint8 by label


def series(home: Path) -> dict[str, list[Path]]:
    """The stacks of a folder by name: ``lytro-01-A.jpg`` and ``lytro-01-B.jpg`` are of lytro-01;
    raises :class:`UserError` if there is no folder, or no stack in it."""
    found = defaultdict(list)
    for path in sorted(folder(home).iterdir()):
        if path.suffix.lower() in EXTENSIONS:
            found[re.sub(r"[-_][^-_]+$", "", path.stem)].append(path)
    stacks = {name: paths for name, paths in found.items() if len(paths) > 1}
    if not stacks:
        raise UserError(f"{home} holds no two frames such as x-A.jpg and x-B.jpg")
    return stacks


def results(frames: Sequence[np.ndarray], peers: Sequence[Peer]) -> tuple[Images, Images]:
    """First, middle and last frame, aligned; and what each program makes of all of them."""
    with tempfile.TemporaryDirectory(prefix="pictures-") as work:
        aligned: list[Path] = []

        def keep(step: Step) -> None:
            aligned.append(Path(work) / f"{step.frame:03d}.png")
            write_png(aligned[-1], step.aligned)

        fused = {"ours": fuse(frames, observe=keep).image}
        places = sorted({0, len(aligned) // 2, len(aligned) - 1})
        shown = {f"frame {i + 1}": read_photo(aligned[i]).rgb for i in places}
        for tool in peers:
            try:
                fused[tool.name], _ = fuse_with(tool, Path(work), align=False)
            except Failed as reason:
                raise UserError(str(reason)) from reason
    return shown, fused


@cli
def main(arguments: Sequence[str] | None = None) -> None:
    parser = option_parser(__doc__)
    folders = [Path("datasets/lytro_triples"), Path("datasets/stacks/pcb")]
    parser.add_argument("--stacks", nargs="+", type=Path, default=folders, metavar="DIR")
    parser.add_argument("--out", type=Path, default=Path("docs/figures/stacks"))
    options = parser.parse_args(arguments)
    peers, notes = choose_peers(PEERS)
    for note in notes:
        print(note)
    stacks = {k: v for home in options.stacks for k, v in series(home).items()}
    for name, paths in tqdm(stacks.items(), unit="stack", disable=None):
        frames, fused = results([read_photo(path).rgb for path in paths], peers)
        first, *_, last = frames.values()
        insets = choose_insets([first, last], list(fused.values()))
        save(comparison(frames | fused, insets), options.out / f"{name}.jpg")


if __name__ == "__main__":
    raise SystemExit(main())
