"""Raw requests to the page, as a hostile visitor or another site would send them."""

from __future__ import annotations

import json
import os
import re
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

pytest.importorskip("gradio", reason="the page needs gradio")

from page import guard, server  # noqa: E402
from page.limits import Limits  # noqa: E402
from page.server import serve  # noqa: E402
from page.sessions import Sessions  # noqa: E402

ROOT = Path(__file__).parents[1]
LIMITS = Limits(disk_megabytes=4, total_megabytes=3, megabytes=3)
API = "gradio_api/"


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(server, "HALF_OPEN", 1.0)
        patch.setattr(guard, "PATIENCE", 1.0)
        with serve(None, LIMITS, names=["Photos.example.org"]) as page:
            yield page.local_url


def port(address: str) -> int:
    return int(address.rstrip("/").rpartition(":")[2])


def raw(address: str, request: bytes, seconds: float = 10) -> tuple[bytes, float]:
    """What the server answers until it hangs up, and after how long it does."""
    started = time.monotonic()
    with socket.create_connection(("127.0.0.1", port(address)), timeout=seconds) as connection:
        connection.sendall(request)
        answer = b""
        while part := connection.recv(65536):
            answer += part
    return answer, time.monotonic() - started


def multipart(name: str, content: bytes = b"abc") -> dict:
    head = f'--B\r\nContent-Disposition: form-data; name="files"{name}\r\n\r\n'.encode()
    return {
        "content": head + content + b"\r\n--B--\r\n",
        "headers": {"Content-Type": "multipart/form-data; boundary=B"},
    }


@pytest.mark.parametrize(
    "path",
    [
        *("file=https://example.com/x.png", "file=HTTP://127.0.0.1/x", "file=ftp://example.com/x"),
        *("file=https%3A%2F%2Fexample.com", "file/https://example.com/x.png", "file=http:/x"),
        *("proxy=https://example.com/x", "proxy=http://169.254.169.254/", "file=x.png", "file="),
        *("monitoring", "vibe-code/", "deep_link", "openapi.json", "dev/reload", "stream/1/2/3/x"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_the_page_is_nobodys_relay(address, path, method):
    assert httpx.request(method, f"{address}{API}{path}").status_code == 404


@pytest.mark.parametrize(
    "path", ["/etc/passwd", str(ROOT / "app.py"), "//etc/passwd", "/proc/self/environ", "/tmp"]
)
def test_files_of_the_server_stay(address, path):
    answer = httpx.get(f"{address}{API}file={path}")
    assert answer.status_code == 403 and "root:" not in answer.text


@pytest.mark.parametrize(
    ("host", "code"),
    [
        *(("evil.example", 421), ("localhost.evil.example", 421), ("", 421), ("127.0.0.1.x", 421)),
        *(("localhost:7860", 200), ("127.0.0.1", 200), ("192.168.0.7:80", 200), ("[::1]:7", 200)),
        *(("photos.example.org", 200), ("PHOTOS.EXAMPLE.ORG:443", 200), ("example.org", 421)),
    ],
)
def test_other_names_that_lead_here_are_not_answered(address, host, code):
    """DNS rebinding: a site's name is pointed to this machine, to read it as that site."""
    assert httpx.get(f"{address}config", headers={"Host": host}).status_code == code


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "https://127.0.0.1:1", "file://"]
)
def test_other_sites_send_nothing(address, origin):
    for url, sent in (
        (f"{address}{API}upload", multipart('; filename="a.png"')),
        (f"{address}{API}queue/join", {"content": b"{}", "headers": {}}),
    ):
        sent["headers"]["Origin"] = origin
        assert httpx.post(url, **sent).status_code == 403
    own = multipart('; filename="a.png"')
    own["headers"]["Origin"] = address.rstrip("/")
    assert httpx.post(f"{address}{API}upload", **own).status_code == 200


@pytest.mark.parametrize("path", ["queue/join", "run/predict", "api/fuse", "reset", "cancel"])
def test_all_but_uploads_are_small(address, path):
    body = json.dumps({"data": ["x" * 1_100_000], "fn_index": 0, "session_hash": "s"})
    answer = httpx.post(f"{address}{API}{path}", content=body)
    assert answer.status_code == 413 and "1000000 bytes" in answer.text


@pytest.mark.parametrize("length", ["", "Content-Length: 5\r\n", "Content-Length: x\r\n"])
def test_requests_of_unknown_length_are_refused(address, length):
    """Also where both are said: what is sent in pieces would count, and have no end."""
    head = f"POST /{API}upload HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{length}"
    answer, _ = raw(address, f"{head}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n".encode())
    assert re.match(rb"HTTP/1\.1 4(11|00)", answer)


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "TRACE"])
def test_other_methods(address, method):
    assert httpx.request(method, address).status_code == 405


@pytest.mark.parametrize(
    "name",
    ["", '; filename=""', '; filename=".."', '; filename="a\0b.png"', "; filename=", '; name="x"'],
)
@pytest.mark.parametrize("query", ["", "?upload_id=u"])
def test_odd_names_of_uploads_are_no_fault_of_the_server(address, name, query):
    answer = httpx.post(f"{address}{API}upload{query}", **multipart(name))
    assert answer.status_code in (200, 400, 413) and answer.text.strip()


@pytest.mark.parametrize("fn_index", [-1, 999, "x", None, 10**30])
def test_events_that_are_none(address, fn_index):
    body = {"data": [], "fn_index": fn_index, "session_hash": "s"}
    answer = httpx.post(f"{address}{API}queue/join", json=body)
    assert answer.status_code in (400, 422) and answer.text.strip()


@pytest.mark.parametrize(
    "data", [[], [1, 2], ["x", {}], [[{"path": "/etc/passwd"}], False], [[{"path": 1}] * 2, 0]]
)
def test_every_error_has_a_text(address, data):
    config = httpx.get(f"{address}config").json()
    fuse = next(event["id"] for event in config["dependencies"] if event["api_name"] == "fuse")
    session = f"s{time.monotonic_ns()}"
    body = {"data": data, "fn_index": fuse, "session_hash": session}
    assert httpx.post(f"{address}{API}queue/join", json=body).status_code == 200
    with httpx.stream("GET", f"{address}{API}queue/data?session_hash={session}") as stream:
        lines = (json.loads(line[5:]) for line in stream.iter_lines() if line.startswith("data:"))
        done = next(line for line in lines if line["msg"] == "process_completed")
    assert not done["success"] and "choose the photographs again" in done["output"]["error"]


@pytest.mark.parametrize("path", ["", "config", f"{API}info", "theme.css", "manifest.json"])
def test_where_it_is_installed_is_not_told(address, path):
    text = httpx.get(f"{address}{path}").text
    assert text and str(ROOT) not in text and "site-packages" not in text


def test_browsers_are_told_what_not_to_do(address):
    for path in ("", "config", f"{API}upload"):
        headers = httpx.get(f"{address}{path}").headers
        assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert headers["X-Content-Type-Options"] == "nosniff"


def test_room_is_reserved_before_an_upload_is_read(address):
    """Twelve at once, of 1 MB each, in a quota of 4: as many as fit, not all."""

    def upload(number: int) -> int:
        name = f'; filename="{number}.png"'
        answer = httpx.post(f"{address}{API}upload", **multipart(name, os.urandom(1_000_000)))
        return answer.status_code

    with ThreadPoolExecutor(12) as pool:
        codes = list(pool.map(upload, range(12)))
    assert set(codes) == {200, 503}
    root = Path(os.environ["GRADIO_TEMP_DIR"])
    assert sum(path.stat().st_size for path in root.rglob("*") if path.is_file()) <= 4_000_000


def test_reservations_end(tmp_path):
    sessions = Sessions(tmp_path, 60)
    assert sessions.reserve(6, limit=10) and not sessions.reserve(6, limit=10)
    (tmp_path / "file").write_bytes(bytes(5))
    assert not sessions.reserve(1, limit=10)
    sessions.release(6)
    assert sessions.reserve(1, limit=10)


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"GET / HT",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Long: ",
        b"GET /robots.txt HTTP/1.1\r\nHost: localhost\r\n\r\nGET / HTTP/1.1\r\nHo",
    ],
)
def test_connections_that_ask_for_nothing_are_closed(address, sent):
    _, seconds = raw(address, sent)
    assert seconds < 8


def test_a_body_that_does_not_come_ends_the_request(address):
    head = f"POST /{API}upload HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n"
    head += "Content-Type: multipart/form-data; boundary=B\r\nConnection: close\r\n\r\n--B"
    answer, seconds = raw(address, head.encode())
    assert answer.startswith(b"HTTP/1.1 408") and b"too long" in answer and seconds < 8


def test_half_open_connections_do_not_keep_others_out(address):
    held = [socket.create_connection(("127.0.0.1", port(address))) for _ in range(200)]
    for connection in held:
        connection.sendall(b"POST /")
    assert httpx.get(f"{address}config").status_code == 200
    end = time.monotonic() + 10
    open_ = list(held)
    while open_ and time.monotonic() < end:
        time.sleep(0.2)
        open_ = [connection for connection in open_ if not _hung_up(connection)]
    assert not open_
    for connection in held:
        connection.close()


def _hung_up(connection: socket.socket) -> bool:
    connection.setblocking(False)
    try:
        return not connection.recv(1)
    except BlockingIOError:
        return False
    except OSError:
        return True


def test_a_websocket_is_not_opened(address):
    head = "GET / HTTP/1.1\r\nHost: evil.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    head += "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    answer, _ = raw(address, head.encode())
    assert b" 101 " not in answer


def test_threads_of_the_page_end_with_it():
    before = set(threading.enumerate())
    with serve(None, LIMITS) as page:
        assert httpx.get(page.local_url).status_code == 200
        ours = [
            t for t in set(threading.enumerate()) - before if re.search("_sweep|_hang_up", t.name)
        ]
        assert len(ours) == 2
    for thread in ours:
        thread.join(20)
        assert not thread.is_alive()
