"""What is refused before Gradio sees it, and what browsers are told not to do."""

from __future__ import annotations

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from page.limits import MEGA, Limits
from page.sessions import Sessions

# The page needs nothing from other servers, so that it works offline and tells nobody of its use.
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; "
    "frame-ancestors 'self'; base-uri 'self'; form-action 'self'; object-src 'none'"
)
FRAMING = 1_000_000  # bytes of an upload that are no file content


class Guard:
    """ASGI middleware: bounds uploads as a whole, where Gradio bounds each file."""

    def __init__(self, app: ASGIApp, limits: Limits, sessions: Sessions):
        self.app, self.limits, self.sessions = app, limits, sessions

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        request = Request(scope)
        if request.method == "POST" and (refusal := self._refusal(request)):
            return await refusal(scope, receive, send)

        async def send_with_policy(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["Content-Security-Policy"] = POLICY
                headers["Referrer-Policy"] = "no-referrer"
                headers["X-Content-Type-Options"] = "nosniff"
            await send(message)

        await self.app(scope, receive, send_with_policy)

    def _refusal(self, request: Request) -> PlainTextResponse | None:
        length = request.headers.get("Content-Length", "")
        if not length.isdecimal():
            return PlainTextResponse("say how long the request is (Content-Length)", 411)
        if int(length) > self.limits.total_megabytes * MEGA + FRAMING:
            text = f"more than the {self.limits.total_megabytes} MB that are taken at once"
            return PlainTextResponse(text, 413)
        disk = self.limits.disk_megabytes * MEGA
        if request.url.path.endswith("/upload") and self.sessions.size() + int(length) > disk:
            return PlainTextResponse("the server is busy; try again in a few minutes", 503)
        return None
