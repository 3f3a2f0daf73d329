"""The page as a server: its folder, its bounds, its start and end."""

from __future__ import annotations

import contextlib
import os
import socket
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import gradio as gr
from starlette.middleware import Middleware

from page.actions import Actions
from page.fusing import Fuser
from page.guard import Guard
from page.layout import STYLE, THEME, build
from page.limits import MEGA, Limits
from page.sessions import Sessions
from utils.errors import UserError

SESSIONS = 64  # whose state Gradio keeps in memory
SWEEP = 60  # seconds between looks for old files


@contextlib.contextmanager
def serve(
    fuser: Fuser, limits: Limits, host: str = "127.0.0.1", port: int | None = None
) -> Iterator[gr.Blocks]:
    """Serve the page until the end of the ``with``; then all files of visitors are gone.

    Args:
        port: by default the first that is free from 7860 on.

    Yields:
        The running page; ``local_url`` is its address.

    Raises:
        UserError: host or port cannot be had.
    """
    try:
        socket.create_server((host, port or 0)).close()
    except (OSError, OverflowError) as error:
        where = f"{host}:{port}" if port else host
        raise UserError(f"cannot serve at {where}: {error}; see --host and --port") from error
    with tempfile.TemporaryDirectory(prefix="mmfnet-page-") as folder, _gradio_folder(folder):
        sessions = Sessions(Path(folder).resolve(), 60 * limits.minutes)
        page = build(Actions(fuser, limits, sessions), limits)
        page.queue(max_size=limits.waiting)
        page.launch(
            server_name=host,
            server_port=port,
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
            app_kwargs={"middleware": [Middleware(Guard, limits=limits, sessions=sessions)]},
        )
        ended = threading.Event()
        threading.Thread(target=_sweep, args=(sessions, ended), daemon=True).start()
        try:
            yield page
        finally:
            ended.set()
            page.close(verbose=False)


def _sweep(sessions: Sessions, ended: threading.Event) -> None:
    """Gradio would do it (``delete_cache``), but ends when somebody uploads at that moment."""
    while not ended.wait(SWEEP):
        sessions.sweep()


@contextlib.contextmanager
def _gradio_folder(folder: str) -> Iterator[None]:
    """Have Gradio keep uploads in a folder; it looks at the variable all the time."""
    before = os.environ.get("GRADIO_TEMP_DIR")
    os.environ["GRADIO_TEMP_DIR"] = str(Path(folder).resolve())
    try:
        yield
    finally:
        del os.environ["GRADIO_TEMP_DIR"]
        if before is not None:
            os.environ["GRADIO_TEMP_DIR"] = before
