"""Event handlers: choose files, fuse, compare, leave."""

from __future__ import annotations

import contextlib
import contextvars
import html
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import gradio as gr
from gradio_client.utils import is_http_url_like

from page.fusing import Fuser, Progress
from page.limits import FULL_DISK, Limits, check
from page.sessions import Sessions
from utils.errors import UserError, is_full


class Actions:
    """Handlers of the page's events; a mistake of the visitor is a :class:`gradio.Error`."""

    def __init__(self, fuser: Fuser, limits: Limits, sessions: Sessions):
        self.fuser, self.limits, self.sessions = fuser, limits, sessions
        # All in one thread, for PyTorch keeps a team of threads for each that calls it.
        self._worker = ThreadPoolExecutor(1, "fusion")

    def note(self, files: list[dict] | None, request: gr.Request) -> None:
        """Assign chosen files to their visitor's session."""
        self.sessions.note(request.session_hash, _paths(files))

    def look(self, files: list[dict] | None) -> None:
        """Check chosen files at once."""
        paths = _paths(files)
        with _plainly(paths):
            check(paths, self.limits, least=0)

    def fuse(
        self,
        files: list[dict] | None,
        align: bool,
        request: gr.Request,
        bar: gr.Progress = gr.Progress(),  # noqa: B008 (Gradio finds it by its default)
    ) -> tuple:
        """Fuse files; returns the values of the page's outputs."""
        paths, session = _paths(files), request.session_hash
        self.sessions.note(session, paths)
        with _plainly(paths):
            check(paths, self.limits)
            folder = self.sessions.begin(session)
            context = contextvars.copy_context()  # knows whose bar it is
            result = self._worker.submit(
                context.run, self.fuser.fuse, paths, bool(align), folder, _steps(bar)
            ).result()
        if not self.sessions.finish(session, folder, result):
            raise _error("The page was closed meanwhile.")
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
        """The photograph that was clicked, beside the fused one."""
        result = self.sessions.result(request.session_hash)
        if result is None:
            raise _error("These results were removed; fuse the photographs again.")
        return result.sources[chosen.index][0], result.shown

    def leave(self, request: gr.Request) -> None:
        """Remove the files of a visitor who closed the page."""
        self.sessions.close(request.session_hash)

    @staticmethod
    def only_uploads(component: gr.File) -> None:
        """Let a component take files that were uploaded, not URLs that the server would fetch."""
        take = component.async_move_resource_to_block_cache

        async def take_upload(path: str | Path | None) -> str | None:
            if is_http_url_like(str(path)):
                raise _error("Addresses are not fetched; choose files.")
            return await take(path)

        component.async_move_resource_to_block_cache = take_upload


def _paths(files: list[dict] | None) -> list[Path]:
    return [Path(file["path"]) for file in files or ()]


@contextlib.contextmanager
def _plainly(paths: Sequence[Path]) -> Iterator[None]:
    """Name files in errors as the visitor does, without server paths."""
    try:
        yield
    except (UserError, OSError) as error:
        if is_full(error):
            raise _error(f"{FULL_DISK[:1].upper()}{FULL_DISK[1:]}.") from error
        if not isinstance(error, UserError):
            raise
        message = str(error)
        for path in paths:
            message = message.replace(str(path), path.name)
        if not message.startswith(tuple(path.name for path in paths)):
            message = message[:1].upper() + message[1:]
        raise _error(f"{message}.") from error


def _error(message: str) -> gr.Error:
    # Gradio shows it as HTML.
    return gr.Error(html.escape(message, quote=False), duration=20, print_exception=False)


def _steps(bar: gr.Progress) -> Progress:
    """The page's bar as the parts below it take one."""

    def progress(numbers: Iterable[int], stage: str) -> Iterator[int]:
        numbers = list(numbers)
        for done, number in enumerate(numbers):
            bar((done, len(numbers)), desc=stage.capitalize(), unit="photographs")
            yield number

    return progress
