"""Ray-traced focus stacks: PSNR against a truth that no defocus model made.

    python -m benchmarks.raytraced
    python -m benchmarks.raytraced --only 0.4 --scenes 3 --tools ours --resume
    python -m benchmarks.raytraced --only 1.2 --render

Scenes textured with photographs that training never sees are rendered through a thin lens
(benchmarks/raytracing), once, into --work; an interrupted render resumes. Then each program fuses
all frames of a stack, its first and last, and two neighbours. Scores go to --out: scores.json with
each value, README.md with the tables, and pictures of where ours is worst.
"""

import math
import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.ndimage import distance_transform_edt, uniform_filter
from tqdm import tqdm

from benchmarks.generated import check_size, choose_frames, decibels, oracle, wrong
from benchmarks.raytracing.cache import CLASSES, Motion, SizeClass, Stack, render_all, stacks
from benchmarks.report import Bar, Row, Rows, shared_options, table, verdicts, write_report
from benchmarks.tools import NAMES, OPENFOCUS_DEFAULT, OURS, TOOLS, fuse_with
from drawing.canvas import Canvas, save
from evaluation.peers import Peer, choose_peers
from utils.errors import UserError, cli
from utils.images import read_photo, write_png

ORACLE = "oracle selection"
ORACLES = {ORACLE: 1, f"{ORACLE} of 3×3 pixels": 3}  # side of the square
SETS = {"stack": "All frames", "ends": "First and last frame", "neighbours": "Two neighbours"}
COLUMNS = {
    "whole": ("whole, dB ↑", "{:.2f}"),
    "edges": ("beside edges, dB ↑", "{:.2f}"),
    "away": ("away, dB ↑", "{:.2f}"),
    "wrong": ("wrong beside edges ↓", "{:.2%}"),
    "scenes": ("scenes", "{}"),
    "failed": ("failed", "{}"),
}
JUMP = 0.5  # px of blur between neighbouring pixels: more is a depth edge
REACH = 12 / 720  # of the width: nearer to a depth edge is beside it
PLACES, CELL, GAP, LABEL = 5, 200, 8, 22  # of a picture of the worst: rows; units
SIDE = 1 / 9  # of a crop, of the width
GAIN = 4  # of errors, around grey
ERROR = f"(ours - truth) x {GAIN}"
DECIBELS = ("whole", "edges", "away")
MEANS = (*DECIBELS, "wrong")
OVER_ORACLE = {"edges": ("beside depth edges", 0.5), "away": ("away from them", -0.7)}  # dB
EDGES_OVER_PEER = 2.0  # dB

NOTE = """# Ray-traced focus stacks

Written by `python -m benchmarks.raytraced`. Tilted cards with mattes, balls, stems, wires, a ground
from near to far and a wall, seen through a thin lens: no layers, no α-matte equation, true
occlusion, depth without steps, lights up to 30 times white. The truth is the same scene through a
pinhole. PSNR against it, means over scenes: whole, beside depth edges (within 12 px of one at a
width of 720) and away from them; *wrong* is the share of the pixels beside edges in which a channel
is wrong by more than 20/255. Oracle selection is no method: it takes for each pixel the frame that
is nearest to the truth, and with many frames is flattered by what noise the rays leave.
"""


def frames_of(kind: SizeClass, name: str) -> Sequence[int]:
    """The frames of a set, counted from 0."""
    last, middle = kind.frames - 1, kind.frames // 2
    return {"ends": [0, last], "neighbours": [middle - 1, middle]}.get(name, range(kind.frames))


def picture(stack: Stack, name: str, method: str) -> Path:
    """The file of a method's result on a set of frames."""
    return stack.home / "fused" / f"{name}-{method.replace(' ', '-')}.png"


def run(tool: Peer, stack: Stack, name: str, align: bool) -> Row:
    """Let a program fuse a set of frames."""
    with tempfile.TemporaryDirectory(prefix="raytraced-") as folder:
        numbers = frames_of(stack.kind, name)
        frames = choose_frames(stack.home, numbers, Path(folder) / "frames")
        if tool is OURS:  # as large as the truth
            tool = replace(OURS, commands=partial(OURS.commands, crop=False))
        fused, _ = fuse_with(tool, frames, align)
    return compare(stack, name, tool.name, fused)


def select(stack: Stack, name: str, method: str) -> Row:
    """One of :data:`ORACLES` among a set of frames."""
    frames = (read_photo(stack.frames[i]).rgb for i in frames_of(stack.kind, name))
    chosen = oracle(read_photo(stack.truth).rgb, frames, ORACLES[method])
    return compare(stack, name, method, chosen)


def compare(stack: Stack, name: str, method: str, fused: np.ndarray) -> Row:
    """Keep a result and compare it with the truth."""
    truth = read_photo(stack.truth).rgb
    check_size(fused, truth)
    write_png(picture(stack, name, method), fused)
    return score(fused, truth, beside_edges(stack.read_disparity()))


def beside_edges(disparity: np.ndarray) -> np.ndarray:
    """(H, W) bool: within 12 pixels, at a width of 720, of a depth edge in the disparity (H, W)."""
    edges = np.zeros(disparity.shape, bool)
    for one, jumps in ((edges, np.diff(disparity, axis=0)), (edges.T, np.diff(disparity).T)):
        one[:-1] |= np.abs(jumps) > JUMP
        one[1:] |= np.abs(jumps) > JUMP
    if not edges.any():
        return edges
    return distance_transform_edt(~edges) < REACH * disparity.shape[1]


def score(fused: np.ndarray, truth: np.ndarray, edges: np.ndarray) -> dict[str, float]:
    """PSNR in dB: whole, beside ``edges`` (H, W) bool and away from them; and the share of the
    pixels beside edges that are wrong by more than 20/255. Images are (H, W, 3) uint8."""
    scores = decibels(fused, truth, whole=None, edges=edges, away=~edges)
    return scores | {"wrong": wrong(fused, truth, edges, 20)}


def means(rows: Mapping[str, Row], sizes: Sequence[str], name: str) -> dict[str, Row]:
    """The mean scores of each method, the best first, on a set of frames over all scenes of some
    sizes; scenes on which it failed are left out and counted."""
    found = defaultdict(list)
    for key, row in rows.items():
        stack, of, method = key.split(" ", 2)
        if stack.split("-")[0] in sizes and of == name:
            found[method].append(row)
    averages = {}
    for method, some in found.items():
        good = [row for row in some if "failed" not in row]
        columns = {key: [row[key] for row in good] for key in MEANS if good}
        averages[method] = {key: float(np.mean(column)) for key, column in columns.items()}
        averages[method] |= {"scenes": len(good), "failed": len(some) - len(good) or None}
    best_first = sorted(averages, key=lambda method: -averages[method].get("whole", 0))
    return {method: averages[method] for method in best_first}


def bars(rows: Mapping[str, Row], sizes: Sequence[str]) -> list[Bar]:
    """Ours against oracle selection over all sizes, and against StackMFF V3 at each."""

    def ahead(method: str, sizes: Sequence[str]) -> Row:
        """Decibels of ours above another method's, mean over the scenes of some sizes of which both
        fused all frames, and the number of these; empty without any."""
        gains = []
        for scene in dict.fromkeys(key.split()[0] for key in rows):
            ours, other = (rows.get(f"{scene} stack {m}", {}) for m in (OURS.name, method))
            if scene.split("-")[0] in sizes and "edges" in ours and "edges" in other:
                gains.append([ours[part] - other[part] for part in DECIBELS])
        if not gains:
            return {}
        mean = np.mean(gains, axis=0).tolist()
        return dict(zip(DECIBELS, mean, strict=True)) | {"scenes": len(gains)}

    held = []
    if over := ahead(ORACLE, sizes):
        for key, (where, least) in OVER_ORACLE.items():
            text = f"{where} {over[key]:+.2f} dB relative to {ORACLE}, at least {least:+.1f}"
            held.append(Bar(f"{text} ({over['scenes']} scenes)", over[key] >= least))
    for size in sizes:
        if over := ahead(OPENFOCUS_DEFAULT, [size]):
            text = f"{size} megapixels: relative to {OPENFOCUS_DEFAULT} {over['whole']:+.2f} dB"
            text += f", above 0; beside edges {over['edges']:+.2f} dB"
            text += f", at least {EDGES_OVER_PEER:+.1f}"
            held.append(Bar(text, over["whole"] > 0 and over["edges"] >= EDGES_OVER_PEER))
    return held


def report(rows: Mapping[str, Row], out: Path) -> str:
    """All tables measured so far, as Markdown."""
    sizes = list(dict.fromkeys(key.split("-")[0] for key in rows))
    text = f"{NOTE}\n{verdicts(bars(rows, sizes))}"
    for size in sorted(sizes, key=float):
        text += f"\n## {size} megapixels\n"
        for name, title in SETS.items():
            if found := means(rows, [size], name):
                text += f"\n{title}:\n\n{table(found, COLUMNS, 'method')}"
        if (out / f"worst-{size}.jpg").exists():
            text += f"\n![Where ours is worst, a scene a row](worst-{size}.jpg)\n"
    return text


def draw(wanted: Sequence[Stack], found: Mapping[str, Row]) -> Image.Image | None:
    """A sheet of the places where ours is worst, a stack a row: crops of the truth, ours, oracle
    selection, and the best peer (beside edges, by the means ``found``); then the error of ours.
    None if ours fused no stack."""
    edges = {method: row["edges"] for method, row in found.items() if "edges" in row}
    best = max(edges.keys() - {OURS.name, *ORACLES}, key=edges.get, default=None)
    methods = [name for name in (OURS.name, ORACLE, best) if name]
    rows = [row for stack in wanted if (row := worst(stack, methods))]
    if not rows:
        return None
    labels = ["truth", *(m for m in methods if any(m in crops for *_, crops in rows)), ERROR]
    lefts = {label: GAP + i * (CELL + GAP) for i, label in enumerate(labels)}
    rows = sorted(rows, key=lambda row: -row[0])[:PLACES]
    canvas = Canvas(len(lefts) * (CELL + GAP) + GAP, LABEL + len(rows) * (CELL + LABEL + GAP))
    for label, left in lefts.items():
        canvas.text((left + CELL / 2, LABEL / 2), label, 13)
    for number, (_, text, crops) in enumerate(rows):
        top = LABEL + number * (CELL + LABEL + GAP)
        canvas.text((GAP, top + LABEL / 2), text, 12, anchor="lm")
        for label, crop in crops.items():
            enlarged = Image.fromarray(crop).resize((CELL, CELL), Image.Resampling.BOX)
            canvas.picture(enlarged, lefts[label], top + LABEL, CELL, CELL)
    return canvas.finish()


def worst(stack: Stack, methods: Sequence[str]) -> tuple[float, str, dict[str, np.ndarray]] | None:
    """The mean squared error of ours where it is worst, the name of that place, and crops of it
    from the truth, from what each method made of all frames, and of the error of ours, by label;
    None without a picture of ours."""
    files = {"truth": stack.truth} | {m: picture(stack, "stack", m) for m in methods}
    shown = {label: read_photo(path).rgb for label, path in files.items() if path.exists()}
    if OURS.name not in shown:
        return None
    error, (top, left, side) = worst_place(shown[OURS.name], shown["truth"])
    here = (slice(top, top + side), slice(left, left + side))
    crops = {label: image[here] for label, image in shown.items()}
    difference = crops[OURS.name].astype(np.float32) - crops["truth"]
    crops[ERROR] = np.clip(127.5 + GAIN * difference, 0, 255).astype(np.uint8)
    return error, f"{stack.home.name}, {left},{top}", crops


def worst_place(fused: np.ndarray, truth: np.ndarray) -> tuple[float, tuple[int, int, int]]:
    """The mean squared error of the worst square, and its top, left and side in pixels."""
    side = max(4, round(SIDE * truth.shape[1]))
    half = side // 2
    inside = slice(half, half - side + 1)
    error = np.square(fused.astype(np.float32) - truth).mean(axis=2)
    inner = uniform_filter(error, side, mode="constant")[inside, inside]
    top, left = np.unravel_index(inner.argmax(), inner.shape)
    return float(inner.max()), (int(top), int(left), side)


@cli
def main(arguments: Sequence[str] | None = None) -> None:
    parser = shared_options(__doc__, [kind.name for kind in CLASSES], "raytraced")
    add = parser.add_argument
    add("--scenes", type=int, metavar="N", help="at most so many of each size")
    add("--tools", nargs="+", choices=NAMES, default=[], metavar="NAME", help="; ".join(NAMES))
    add("--render", action="store_true", help="render only; do not run the programs")
    add("--breathing", type=float, default=0.0, metavar="SHARE", help="of the focus: 0.02")
    add("--shake", type=float, default=0.0, metavar="PX", help="of the hand, at a width of 720")
    add("--work", type=Path, default=Path("datasets/raytraced"), help="where stacks are kept")
    options = parser.parse_args(arguments)
    if options.scenes is not None and options.scenes < 1:
        raise UserError(f"--scenes {options.scenes}: has to be at least 1")
    if not (0 <= options.shake < math.inf and abs(options.breathing) < 1):
        raise UserError("--shake has to be 0 px or more, --breathing between -1 and 1")
    motion = Motion(options.breathing, options.shake)
    kinds = [kind for kind in CLASSES if kind.name in options.only]
    wanted = list(stacks(options.work, kinds, motion, options.scenes))
    render_all(wanted, options.photographs)
    if options.render:
        return
    moving = motion != Motion()
    tools, notes = choose_peers(options.tools, TOOLS, align=moving)
    for note in notes:
        print(note)
    sets = dict(SETS)
    if moving:  # in tables of their own; the truth is that of the middle frame
        options.out /= motion.name
        del sets["ends"]
    rows = Rows(options.out / "scores.json", options.resume)
    for stack, name in tqdm(list(product(wanted, sets)), unit="set", disable=None):
        for tool in tools:
            fuse = partial(run, tool, stack, name, moving)
            rows.add(f"{stack.home.name} {name} {tool.name}", fuse)
        for method in ORACLES:
            rows.add(f"{stack.home.name} {name} {method}", partial(select, stack, name, method))
    for kind in kinds:
        found = means(rows.rows, [kind.name], "stack")
        if sheet := draw([stack for stack in wanted if stack.kind == kind], found):
            save(sheet, options.out / f"worst-{kind.name}.jpg")
    versions = {tool.name: tool.version() for tool in tools}
    write_report(options.out, report(rows.rows, options.out), notes=notes, versions=versions)


if __name__ == "__main__":
    raise SystemExit(main())
