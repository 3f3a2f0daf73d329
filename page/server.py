"""Start and stop the server of the page, with its temporary folders and cleaning threads."""

import contextlib
import os
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Collection, Iterator
from pathlib import Path

import gradio as gr
import uvicorn
from starlette.middleware import Middleware

from fusion.backends import Backend
from page.actions import Actions
from page.guard import Guard
from page.layout import STYLE, THEME, build
from page.limits import MEGA, Limits
from page.sessions import Sessions
from utils.errors import UserError

SESSIONS = 64  # sessions whose state Gradio keeps in memory
SWEEP = 60  # seconds between searches for old files
HALF_OPEN = 20  # seconds until a connection without a request is closed
SAMPLES = Path(__file__).parents[1] / "data/samples"


@contextlib.contextmanager
def serve(
    backend: Backend,
    limits: Limits,
    host: str = "127.0.0.1",
    port: int | None = None,
    names: Collection[str] = (),
) -> Iterator[gr.Blocks]:
    """Serve the page until the end of the ``with``, and remove all files of visitors then.

    By default at the first free port from 7860 on. It answers to ``names`` too, besides the
    machine's own name and addresses. Yields the running page, whose address is ``local_url``;
    raises :class:`UserError` if the host or port is not available.
    """
    try:
        socket.create_server((host, port or 0)).close()
    except (OSError, OverflowError) as error:
        where = f"{host}:{port}" if port else host
        raise UserError(f"cannot serve at {where}: {error}; see --host and --port") from error
    with (
        tempfile.TemporaryDirectory(prefix="mmfnet-page-") as folder,
        tempfile.TemporaryDirectory(prefix="mmfnet-samples-") as samples,
    ):
        root, before = Path(folder).resolve(), os.environ.get("GRADIO_TEMP_DIR", "")
        os.environ["GRADIO_TEMP_DIR"] = str(root)  # Gradio reads it at each upload
        sessions = Sessions(root, 60 * limits.minutes)
        # Copied, since visitors see their path, which is not to show where this is installed.
        shutil.copytree(SAMPLES, samples, dirs_exist_ok=True)
        page = build(Actions(backend, limits, sessions), limits, Path(samples).resolve())
        own = socket.gethostname()
        accepted = {name.lower() for name in ("localhost", own, f"{own}.local", host, *names)}
        guard = Middleware(Guard, limits=limits, sessions=sessions, names=accepted)
        page.queue(max_size=limits.waiting)
        page.launch(
            server_name=host,
            server_port=port or None,
            prevent_thread_lock=True,
            quiet=True,
            share=False,
            ssr_mode=False,
            run_history=False,
            enable_monitoring=False,
            footer_links=[],
            max_file_size=limits.megabytes * MEGA,
            state_session_capacity=SESSIONS,
            theme=THEME,
            css_paths=STYLE,
            app_kwargs={"middleware": [guard]},
        )
        ended = threading.Event()
        threading.Thread(target=_sweep, args=(sessions, ended), daemon=True).start()
        threading.Thread(target=_hang_up, args=(page.server, ended), daemon=True).start()
        try:
            yield page
        finally:
            ended.set()
            page.close(verbose=False)
            os.environ["GRADIO_TEMP_DIR"] = before


def _sweep(sessions: Sessions, ended: threading.Event) -> None:
    """Remove old files; Gradio's ``delete_cache`` crashes if somebody uploads meanwhile."""
    while not ended.wait(SWEEP):
        sessions.sweep()


def _hang_up(server: uvicorn.Server, ended: threading.Event) -> None:
    """Close connections that never complete a request; uvicorn has no time limit for them."""
    since: dict = {}  # idle connections, since when, and their last request
    while not ended.wait(HALF_OPEN / 4):
        now, before, since = time.monotonic(), since, {}
        for connection in list(server.server_state.connections):
            cycle = getattr(connection, "cycle", None)  # last request and response
            if cycle and not cycle.response_complete:
                continue
            start, known = before.get(connection, (now, cycle))
            since[connection] = start if known is cycle else now, cycle
            if now - since[connection][0] > HALF_OPEN:
                with contextlib.suppress(RuntimeError):  # the server has ended
                    connection.loop.call_soon_threadsafe(connection.transport.close)
