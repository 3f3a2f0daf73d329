"""Load the page with many visitors at once, round after round; check its answers and memory.

    python -m tests.hostile.page_load

Starts ``app.py`` on a free port and speaks to it as a browser does. Each visitor uploads a new pair
of photographs, fuses it, downloads the result and leaves. Exit code 1 if the page opens too late,
if anything but a result or a clear "busy" is answered, if files of visitors stay, or if memory
keeps growing.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import secrets
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import cv2
import httpx
import numpy as np

from tests.commands import ROOT
from utils.errors import UserError, cli, option_parser

OPENS = 15  # seconds, at most
GROWS = 0.05  # of memory in the second half of the rounds, at most
LEAVES = 40  # seconds that Gradio takes to delete files of visitors who left, at most
PATIENCE = httpx.Timeout(30, read=900)  # seconds: the last in the queue waits long


@cli
def main(argv: list[str] | None = None) -> int:
    parser = option_parser(__doc__)
    parser.add_argument("--visitors", type=int, default=50, help="at once; 50 by default")
    parser.add_argument("--rounds", type=int, default=10, help="10 by default")
    parser.add_argument("--megapixels", type=float, default=1, help="of a photograph; 1 by default")
    parser.add_argument("--waiting", type=int, help="app.py --max-waiting; its own by default")
    args = parser.parse_args(argv)
    options = ["--max-waiting", str(args.waiting)] if args.waiting else []
    if not Path("/proc/self/status").exists():
        raise UserError("memory is read from /proc, which only Linux has")
    side = round((args.megapixels * 1e6) ** 0.5)
    with tempfile.TemporaryDirectory() as folder, serving(Path(folder), options) as server:
        process, address, opened = server
        print(f"the page opens {opened:.1f} s after its start")
        print(f"{args.visitors} visitors at once, each with a pair of {side}×{side} pixels")
        sizes, failures, before = [], Counter(), files_below(Path(folder))
        for number in range(args.rounds):
            pairs = [photographs(side, (number, i)) for i in range(args.visitors)]
            started = time.perf_counter()
            answers = asyncio.run(visit_all(address, pairs))
            seconds = time.perf_counter() - started
            sizes.append(memory(process.pid))
            failures.update(answers - Counter(fused=answers["fused"], busy=answers["busy"]))
            print(
                f"round {number + 1}: {answers['fused']} fused, {answers['busy']} told to come "
                f"later, {answers.total() - answers['fused'] - answers['busy']} failed, "
                f"{seconds:.1f} s, {sizes[-1]:.0f} MB of memory",
                flush=True,
            )
        left = files_left(Path(folder), before)
    growth = sizes[-1] / sizes[len(sizes) // 2] - 1
    print(f"memory from round {len(sizes) // 2 + 1} on: {growth:+.1%}; files left: {len(left)}")
    failures.update(f"{path.name} is left" for path in left)
    for failure, count in failures.items():
        print(f"error: {count}× {failure}", file=sys.stderr)
    return int(opened > OPENS or bool(failures) or growth > GROWS)


@contextlib.contextmanager
def serving(folder: Path, options: list[str]) -> Iterator[tuple[subprocess.Popen, str, float]]:
    """Run the page with its files in ``folder``; process, address, seconds until it opens."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "app.py", "--port", str(port), *options],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(folder)},
    )
    try:
        while True:
            if process.poll() is not None:
                raise UserError(f"app.py ended with exit code {process.returncode}")
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(address).is_success:
                    break
            time.sleep(0.05)
        yield process, address, time.perf_counter() - started
    finally:
        process.terminate()
        process.wait(30)


def photographs(side: int, seed: tuple[int, ...]) -> list[bytes]:
    """Two JPEG files of one scene, one sharp on the left, the other on the right."""
    rng = np.random.default_rng(seed)
    scene = np.zeros((side, side, 3), np.float32)
    for scale in (2, 8, 32):
        coarse = rng.normal(0, 25, (side // scale + 1, side // scale + 1, 3)).astype(np.float32)
        scene += cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC)
    sharp = np.clip(scene + 128, 0, 255).astype(np.uint8)
    blurred = cv2.GaussianBlur(sharp, (0, 0), 3)
    middle = side // 2
    pair = (
        np.hstack([sharp[:, :middle], blurred[:, middle:]]),
        np.hstack([blurred[:, :middle], sharp[:, middle:]]),
    )
    return [cv2.imencode(".jpg", image)[1].tobytes() for image in pair]


async def visit_all(address: str, pairs: list[list[bytes]]) -> Counter[str]:
    """Let a visitor for each pair come at once; count their answers."""
    return Counter(await asyncio.gather(*(visit(address, pair) for pair in pairs)))


async def visit(address: str, pair: list[bytes]) -> str:
    """Be a visitor: "fused", "busy", or what went wrong."""
    session = secrets.token_hex(6)
    api = f"{address}/gradio_api"
    try:
        # While its heartbeat is open, the server takes the page for open in a browser.
        async with (
            httpx.AsyncClient(timeout=PATIENCE) as client,
            client.stream("GET", f"{api}/heartbeat/{session}"),
        ):
            files = [("files", (f"{i}.jpg", data)) for i, data in enumerate(pair)]
            answer = await client.post(f"{api}/upload", files=files)
            if answer.status_code == 503 and "busy" in answer.text:
                return "busy"
            answer.raise_for_status()
            uploads = [{"path": p, "meta": {"_type": "gradio.FileData"}} for p in answer.json()]
            events = (await client.get(f"{address}/config")).json()["dependencies"]
            note, fuse = (
                next(event["id"] for event in events if event["api_name"] == name)
                for name in ("note", "fuse")
            )
            body = {"data": [uploads], "fn_index": note, "session_hash": session}
            (await client.post(f"{api}/run/predict", json=body)).raise_for_status()
            body = {"data": [uploads, False], "fn_index": fuse, "session_hash": session}
            answer = await client.post(f"{api}/queue/join", json=body)
            if answer.status_code == 503 and "Queue is full" in answer.text:
                return "busy"
            answer.raise_for_status()
            output = await finished(client, f"{api}/queue/data?session_hash={session}")
            fused = next(path for path in paths_in(output) if "-Fusion." in path)
            picture = await client.get(f"{api}/file={fused}")
            image = cv2.imdecode(np.frombuffer(picture.content, np.uint8), cv2.IMREAD_UNCHANGED)
            expected = cv2.imdecode(np.frombuffer(pair[0], np.uint8), cv2.IMREAD_COLOR)
            return "fused" if image.shape == expected.shape else f"a picture of {image.shape}"
    except Exception as error:  # each failure is counted and printed
        return f"{type(error).__name__}: {error}"


async def finished(client: httpx.AsyncClient, url: str) -> list:
    """The outputs of the event that the session waits for."""
    async with client.stream("GET", url) as stream:
        async for line in stream.aiter_lines():
            message = json.loads(line[5:]) if line.startswith("data:") else {}
            if message.get("msg") == "process_completed":
                if not message["success"]:
                    raise RuntimeError(message["output"].get("error") or "an unnamed error")
                return message["output"]["data"]
    raise RuntimeError("the answer ended early")


def paths_in(value: object) -> Iterator[str]:
    """The paths of all files in nested outputs."""
    if isinstance(value, dict):
        if value.get("path"):
            yield value["path"]
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from paths_in(item)


def memory(process: int) -> float:
    """Resident megabytes (10⁶ bytes) of a process."""
    status = Path(f"/proc/{process}/status").read_text()
    return int(re.search(r"VmRSS:\s*(\d+) kB", status)[1]) * 1024 / 1e6


def files_left(folder: Path, before: set[Path]) -> set[Path]:
    """Files that were not there ``before``, once Gradio has had time to delete them."""
    end = time.monotonic() + LEAVES
    while (left := files_below(folder) - before) and time.monotonic() < end:
        time.sleep(0.5)
    return left


def files_below(folder: Path) -> set[Path]:
    return {Path(parent, name) for parent, _, names in os.walk(folder) for name in names}


if __name__ == "__main__":
    sys.exit(main())
