"""Pictures of fused stacks, with insets at depth edges, beside other programs.

    python -m benchmarks.pictures --out docs/figures/stacks

All programs get the same frames, aligned by us, so that the same pixels can be compared. The insets
are where the first and the last frame meet and the results differ most.
"""

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from benchmarks.measure import Failed
from benchmarks.report import folder
from benchmarks.tools import fuse_with
from drawing.canvas import eight_bits, save
from evaluation.figures import choose_insets, comparison
from evaluation.peers import Peer, choose_peers
from fusion.frames import Frames
from fusion.fuse import Step, fuse
from fusion.stack_files import find_stacks, look_into
from utils.errors import UserError, cli, option_parser
from utils.images import read_photo, write_png

PEERS = ("FocusWeave", "enfuse")
Images = dict[str, np.ndarray]  # (H, W, 3) uint8 by label


def results(frames: Sequence[np.ndarray], peers: Sequence[Peer]) -> tuple[Images, Images]:
    """First, middle and last frame, aligned; and what each program makes of all of them. Raises
    :class:`UserError` if one of them fails."""
    with tempfile.TemporaryDirectory(prefix="pictures-") as work:
        aligned: list[Path] = []

        def keep(step: Step) -> None:
            aligned.append(Path(work) / f"{step.frame:03d}.png")
            write_png(aligned[-1], step.aligned)

        try:
            fused = {"ours": fuse(frames, observe=keep).image}
            for tool in peers:
                fused[tool.name], _ = fuse_with(tool, Path(work), align=False)
        except (ValueError, Failed) as reason:
            raise UserError(str(reason)) from reason
        places = sorted({0, len(aligned) // 2, len(aligned) - 1})
        shown = {f"frame {i + 1}": read_photo(aligned[i]).rgb for i in places}
    return tuple({k: eight_bits(v) for k, v in images.items()} for images in (shown, fused))


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
    stacks = []
    for home in options.stacks:
        found, problems = find_stacks(folder(home))
        stacks += found
        for problem in problems:
            print(problem.error, file=sys.stderr)
    if not stacks:
        raise UserError("there is no stack to draw, such as x-A.jpg and x-B.jpg")
    for stack in tqdm(stacks, unit="stack", disable=None):
        with Frames(look_into(stack)) as frames:
            shown, fused = results(frames, peers)
        first, *_, last = shown.values()
        insets = choose_insets([first, last], list(fused.values()))
        save(comparison(shown | fused, insets), options.out / f"{stack.name}.jpg")


if __name__ == "__main__":
    raise SystemExit(main())
