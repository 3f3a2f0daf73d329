"""Handlers of the page's events: files chosen, fuse, compare, page closed."""

import contextlib
import contextvars
import html
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import gradio as gr
from gradio_client.utils import is_http_url_like

from fusion.backends import Backend
from fusion.fuse import AS_THEY_ARE
from page.fusing import fuse_uploads
from page.limits import FULL_DISK, Limits, check
from page.sessions import Sessions
from utils.errors import UserError, is_full

STOPPED = "Stopped."


class Actions:
    """The handlers; a mistake of the visitor is a :class:`gradio.Error`."""

    def __init__(self, backend: Backend, limits: Limits, sessions: Sessions):
        self.backend, self.limits, self.sessions = backend, limits, sessions
        # One thread only: PyTorch keeps a thread pool for each caller.
        self._worker = ThreadPoolExecutor(1, "fusion")

    def note(self, files: list[dict] | None, request: gr.Request) -> None:
        """Record which session the chosen files belong to."""
        self.sessions.note(request.session_hash, _paths(files))

    def check(self, files: list[dict] | None) -> None:
        """Report at once what is wrong with the chosen files."""
        paths = _paths(files)
        with _reported(paths):
            check(paths, self.limits, least=0)

    def fuse(
        self,
        files: list[dict] | None,
        align: bool,
        request: gr.Request,
        bar: gr.Progress = gr.Progress(),  # noqa: B008 (Gradio finds it by its default)
    ) -> tuple:
        """Fuse files; returns a value for each output of the page."""

        def progress(numbers: Iterable[int], stage: str) -> Iterable[int]:
            for number in bar.tqdm(list(numbers), stage.capitalize(), unit="photographs"):
                if not self.sessions.awaits(session, folder):
                    raise _error(STOPPED)
                yield number

        paths, session = _paths(files), request.session_hash
        self.sessions.note(session, paths)
        with _reported(paths):
            check(paths, self.limits)
            with self.sessions.awaiting(session) as folder:
                context = contextvars.copy_context()  # Gradio looks up the visitor's bar in it
                arguments = self.backend, paths, bool(align), folder, progress
                result = self._worker.submit(context.run, fuse_uploads, *arguments).result()
                if not self.sessions.finish(session, folder, result):
                    raise _error(STOPPED)
        origin, guidance, boundary = result.maps
        return (
            result.summary,
            gr.HTML(visible=False),
            gr.Column(visible=True),
            (result.sources[0][0], result.shown),
            result.sources,
            result.fused,
            gr.Image(origin, visible=True),
            gr.Column(visible=guidance is not None),
            gr.Image(guidance, visible=True),
            gr.Image(boundary, visible=True),
        )

    def compare(self, chosen: gr.SelectData, request: gr.Request) -> tuple[Path, Path]:
        """The photograph that was clicked, and the fused one."""
        result = self.sessions.result(request.session_hash)
        if result is None:
            raise _error("These results were removed; fuse the photographs again.")
        return result.sources[chosen.index][0], result.shown

    def stop(self, request: gr.Request) -> None:
        """End the fusing for a visitor at its next photograph; earlier results stay."""
        self.sessions.stop(request.session_hash)

    def leave(self, request: gr.Request) -> None:
        """Remove the files of a visitor who closed the page."""
        self.sessions.close(request.session_hash)


def refuse_urls(component: gr.File) -> None:
    """Have a component accept uploaded files only, not URLs that the server would fetch."""
    take = component.async_move_resource_to_block_cache

    async def take_upload(path: str | Path | None) -> str | None:
        if is_http_url_like(str(path)):
            raise _error("Addresses are not fetched; choose files.")
        return await take(path)

    component.async_move_resource_to_block_cache = take_upload


def _paths(files: list[dict] | None) -> list[Path]:
    return [Path(file["path"]) for file in files or ()]


@contextlib.contextmanager
def _reported(paths: Sequence[Path]) -> Iterator[None]:
    """Show errors to the visitor, with file names instead of paths on the server."""
    try:
        yield
    except (UserError, OSError, MemoryError) as error:
        if is_full(error):
            message = FULL_DISK
        elif isinstance(error, MemoryError):
            message = "the server has too little memory for these; choose fewer or smaller ones"
        elif isinstance(error, UserError):
            message = str(error)
        else:
            raise
        message = message.replace(AS_THEY_ARE, "without aligning them first")
        for path in paths:
            message = message.replace(str(path), path.name)
        if not message.startswith(tuple(path.name for path in paths)):
            message = message[:1].upper() + message[1:]
        raise _error(f"{message}.") from error


def _error(message: str) -> gr.Error:
    # Gradio shows it as HTML.
    return gr.Error(html.escape(message, quote=False), duration=20, print_exception=False)
