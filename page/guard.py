"""Middleware in front of Gradio: refuses requests and sets security headers."""

import asyncio
import ipaddress
import re
import sys
from collections.abc import Collection
from urllib.parse import urlsplit

from gradio.route_utils import API_PREFIX
from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from page.limits import FULL_DISK, MEGA, Limits
from page.sessions import Sessions
from utils.errors import is_full

# The page loads nothing from other servers: it works offline and does not give visitors away.
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; "
    "frame-ancestors 'self'; base-uri 'self'; form-action 'self'; object-src 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
# The routes of Gradio that the page and its clients need. The others fetch from other servers, edit
# the page, record or measure.
ROUTES = re.compile(
    r"/|/(config|theme\.css|favicon\.ico|robots\.txt|manifest\.json|pwa_icon(/\d+)?)/?"
    r"|/(assets|static|svelte)/.*"
    rf"|{API_PREFIX}/((info|app_id|startup-events|upload_progress|upload|theme\.css|reset|cancel)/?"
    r"|queue/(join|data|status)|heartbeat/[^/]*|(run|api|call)/.*|file=/.*|file=[A-Za-z]:[\\/].*)",
    re.DOTALL,
)
METHODS = ("GET", "HEAD", "POST", "OPTIONS")
FRAMING = 1_000_000  # bytes: limit of an upload besides its files, and of any other request
PATIENCE = 30  # seconds to wait for the next part of a request
SLOWEST = 20_000  # bytes a second: least rate of a whole request, after that time
NO_REASON = b'"error":null'  # in Gradio's message about a failed event
REASON = b'"error":"this cannot be done; choose the photographs again"'


class Guard:
    """ASGI middleware: refuses foreign hosts and origins and all routes but the page's, limits the
    size of whole requests (Gradio limits each file), and times out those that stall.

    Args:
        names: host names of this server, in lower case. Others are refused, against DNS rebinding:
            another site's name pointed at this server.
    """

    def __init__(self, app: ASGIApp, limits: Limits, sessions: Sessions, names: Collection[str]):
        self.app, self.limits, self.sessions, self.names = app, limits, sessions, names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":  # the page has none
            return await send({"type": "websocket.close", "code": 1008})
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        request = Request(scope)
        if refusal := self._refusal(request):
            return await PlainTextResponse(*refusal)(scope, receive, send)
        length = int(request.headers.get("Content-Length", 0))
        upload = _is_upload(request)
        if upload and not self.sessions.reserve(length, self.limits.disk_megabytes * MEGA):
            busy = PlainTextResponse("the server is busy; try again in a few minutes", 503)
            return await busy(scope, receive, send)
        answer = _Response(send)
        try:
            await self.app(scope, _TimedReceive(receive, length), answer)
        except Exception as error:  # Gradio's, on crafted requests
            if answer.started:
                raise
            print(f"{request.method} {scope['path']}: {error!r}", file=sys.stderr)
            text, code = "this request cannot be answered", 400
            if isinstance(error, asyncio.TimeoutError):
                text, code = "the request took too long to arrive", 408
            elif is_full(error):
                text, code = FULL_DISK, 507
            elif upload:
                text = "this is no upload that can be read; choose the files again"
            await PlainTextResponse(text, code)(scope, receive, answer)
        finally:
            if upload:
                self.sessions.release(length)

    def _refusal(self, request: Request) -> tuple[str, int] | None:
        """Text and status code for a request that is refused."""
        headers, total = request.headers, self.limits.total_megabytes
        host, origin = headers.get("Host", ""), headers.get("Origin")
        if not self._is_ours(host):
            return "this server has another name; see --name of app.py", 421
        if origin is not None and origin.lower().partition("://")[2] != host.lower():
            return "requests from other sites are not answered", 403
        if request.method not in METHODS:
            return "this is not done here", 405
        if not ROUTES.fullmatch(request.url.path):
            return "there is nothing here", 404
        length = headers.get("Content-Length", "0" if request.method != "POST" else "")
        if "Transfer-Encoding" in headers or not re.fullmatch(r"[0-9]{1,15}", length):
            return "say how long the request is (Content-Length)", 411
        if int(length) > FRAMING and not _is_upload(request):
            return f"the request is larger than {FRAMING} bytes, the limit", 413
        if int(length) > total * MEGA + FRAMING:
            return f"the files are larger than {total} MB together, the limit", 413
        return None

    def _is_ours(self, host: str) -> bool:
        """Accept any address, and known names: only a name can be pointed at another server."""
        name = None
        try:
            name = urlsplit(f"//{host}").hostname or ""
            ipaddress.ip_address(name)
        except ValueError:
            return name in self.names
        return True


def _is_upload(request: Request) -> bool:
    return request.method == "POST" and request.url.path.rstrip("/") == f"{API_PREFIX}/upload"


class _TimedReceive:
    """Receives a request; raises asyncio.TimeoutError if its parts do not arrive in time."""

    def __init__(self, receive: Receive, length: int):
        self.receive, self.more = receive, length > 0
        self.end = asyncio.get_running_loop().time() + PATIENCE + length / SLOWEST

    async def __call__(self) -> Message:
        if not self.more:  # the next message says that the client has disconnected
            return await self.receive()
        left = self.end - asyncio.get_running_loop().time()
        message = await asyncio.wait_for(self.receive(), min(left, PATIENCE))
        self.more = message.get("more_body", False)
        return message


class _Response:
    """Sends a response with security headers, and a reason where Gradio gives none."""

    def __init__(self, send: Send):
        self.send, self.started, self.events = send, False, False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.started = True
            headers = MutableHeaders(scope=message)
            headers.update(HEADERS)
            self.events = "text/event-stream" in headers.get("Content-Type", "")
        elif self.events:
            message = {**message, "body": message.get("body", b"").replace(NO_REASON, REASON)}
        await self.send(message)
