"""The page over HTTP: it gives the command line's bytes, keeps its limits and leaves nothing."""

from __future__ import annotations

import contextlib
import http.server
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import httpx
import numpy as np
import pytest
import tifffile
from conftest import texture
from image_files import SRGB
from PIL import Image

pytest.importorskip("gradio", reason="the page needs gradio")
from gradio_client import Client, handle_file  # noqa: E402
from gradio_client.exceptions import AppError  # noqa: E402

import app  # noqa: E402
from fusion.backends import Backend, load_backend  # noqa: E402
from page import actions  # noqa: E402
from page.fusing import fuse_uploads  # noqa: E402
from page.limits import Limits  # noqa: E402
from page.server import serve  # noqa: E402
from page.sessions import Sessions  # noqa: E402
from run_inference import main as run_inference  # noqa: E402
from tests.hostile.fault_files import png  # noqa: E402
from tests.hostile.faults import room  # noqa: E402
from utils.images import Metadata, read_photo, write_photo  # noqa: E402

SAMPLES = Path(__file__).parents[1] / "data/samples"
LIMITS = Limits(
    files=3,
    megapixels=1,
    total_megapixels=2,
    megabytes=2,
    total_megabytes=5,
    disk_megabytes=50,
    waiting=1,
)
DOWNLOAD = 3  # place among the outputs


@pytest.fixture(scope="module", autouse=True)
def fast_heartbeat() -> Iterator[None]:
    """Clients that are closed are noticed soon."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_HEARTBEAT_INTERVAL", "0.2")
        yield


@pytest.fixture(scope="module")
def backend(weights) -> Backend:
    return load_backend(weights)


@pytest.fixture(scope="module")
def address(backend) -> Iterator[str]:
    with serve(backend, LIMITS) as page:
        yield page.local_url


@pytest.fixture
def client(address) -> Iterator[Client]:
    client = Client(address, verbose=False)
    yield client
    client.close()


def root() -> Path:
    """Where the page that was started last keeps the files of visitors."""
    return Path(os.environ["GRADIO_TEMP_DIR"])


def files_below(folder: Path) -> set[Path]:
    """Those there are; folders may vanish while the page removes what visitors have left."""
    return {Path(where, name) for where, _, names in os.walk(folder) for name in names}


def size_of(files: Iterable[Path]) -> int:
    """Bytes of those that have not vanished since."""
    size = 0
    for path in files:
        with contextlib.suppress(FileNotFoundError):
            size += path.stat().st_size
    return size


def fuse(client: Client, *files: Path, align: bool = False) -> list:
    return client.predict([handle_file(file) for file in files], align, api_name="/fuse")


def fused_file(outputs: list) -> Path:
    found = [x for x in outputs if isinstance(x, str) and "-Fusion." in Path(x).name]
    assert len(found) == 1
    return Path(found[0])


def refused(client: Client, *files: Path) -> str:
    """What the page says to files that it does not take."""
    with pytest.raises(AppError) as error:
        fuse(client, *files)
    return str(error.value)


def wait_until(condition: Callable[[], bool], seconds: float = 10) -> bool:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.05)
    return condition()


@pytest.fixture
def stack(tmp_path) -> list[Path]:
    """Three 16-bit photographs of one scene, each sharp in another third."""
    sharp = texture(1, 160, 240).astype(np.uint16) * 257
    blurred = cv2.GaussianBlur(sharp, (0, 0), 3)
    paths = []
    for i in range(3):
        image = blurred.copy()
        image[:, 80 * i : 80 * (i + 1)] = sharp[:, 80 * i : 80 * (i + 1)]
        paths.append(tmp_path / f"scene_{i}.tif")
        cv2.imwrite(str(paths[-1]), image)
    return paths


def test_pair_is_the_command_lines(client, tmp_path, weights):
    pair = SAMPLES / "coffee-A.png", SAMPLES / "coffee-B.png"
    outputs = fuse(client, *pair)
    given = ["--output", str(tmp_path), "--weights", weights]
    assert run_inference(["--input", *map(str, pair), *given]) == 0
    assert fused_file(outputs).name == "coffee-Fusion.png"
    assert fused_file(outputs).read_bytes() == (tmp_path / "coffee-Fusion.png").read_bytes()
    assert "512×384 pixels, 8 bit" in outputs[0]


@pytest.mark.parametrize("align", [True, False])
def test_stack_is_the_command_lines_at_16_bits(client, stack, tmp_path, align, weights):
    outputs = fuse(client, *stack, align=align)
    options = ["--output", str(tmp_path / "out"), "--weights", weights]
    options += ["--no-align"] * (not align)
    assert run_inference(["--stack", *map(str, stack), *options]) == 0
    (expected,) = (tmp_path / "out").glob("scene-Fusion.*")
    assert fused_file(outputs).name == expected.name
    assert fused_file(outputs).read_bytes() == expected.read_bytes()
    assert cv2.imread(str(fused_file(outputs)), cv2.IMREAD_UNCHANGED).dtype == np.uint16


def test_pages_of_a_tiff_are_photographs(client, stack, tmp_path, weights):
    pages, scan = [read_photo(path).rgb for path in stack], tmp_path / "scan.tif"
    tifffile.imwrite(scan, np.stack(pages), photometric="rgb")
    outputs = fuse(client, scan)
    options = ["--no-align", "--output", str(tmp_path), "--weights", weights]
    assert run_inference(["--stack", str(scan), *options]) == 0
    assert fused_file(outputs).read_bytes() == (tmp_path / "scan-Fusion.png").read_bytes()
    assert all(f"scan.tif, page {number}<" in outputs[0] for number in (1, 2, 3))
    tifffile.imwrite(scan, np.stack([*pages, pages[0]]), photometric="rgb")
    assert "4 photographs; the limit is 3" in refused(client, scan)
    black = np.zeros((3, 1000, 1000), np.uint8)
    tifffile.imwrite(scan, black, photometric="minisblack", compression="zlib")
    assert "3 megapixels together; the limit is 2 megapixels" in refused(client, scan)


def test_pictures_have_the_colour_profile(backend, tmp_path, stack):
    metadata = Metadata(SRGB)
    for path in stack:
        write_photo(path, replace(read_photo(path), metadata=metadata))
    result = fuse_uploads(backend, stack, False, tmp_path / "out", lambda numbers, _: numbers)
    for path in (result.shown, *(path for path, _ in result.sources)):
        assert Image.open(path).info["icc_profile"] == SRGB
    assert "icc_profile" not in Image.open(result.maps[0]).info


def test_what_cannot_be_read_is_named(backend, tmp_path, stack):
    stack[2].write_bytes(stack[2].read_bytes()[:3000])
    result = fuse_uploads(backend, stack, False, tmp_path / "out", lambda numbers, _: numbers)
    assert f"{stack[2].name} was left out" in result.summary
    assert str(tmp_path) not in result.summary


def test_names_that_have_nothing_in_common(backend, tmp_path, stack):
    """The folder's name, which the server chose, is not in that of the result."""
    files = [stack[i].rename(tmp_path / name) for i, name in enumerate(("near.tif", "far.tif"))]
    result = fuse_uploads(backend, files, False, tmp_path / "out", lambda numbers, _: numbers)
    assert result.fused.name == "fused-Fusion.png"


def test_two_are_aligned_when_asked_to(client, tmp_path):
    far = texture(2, 200, 260)
    near = np.roll(far, 6, axis=1)
    for name, image, column in (("near", near, slice(0, 130)), ("far", far, slice(130, 260))):
        soft = cv2.GaussianBlur(image, (0, 0), 2)
        soft[:, column] = image[:, column]
        cv2.imwrite(str(tmp_path / f"{name}.png"), soft)
    files = tmp_path / "near.png", tmp_path / "far.png"
    image = cv2.imread(str(fused_file(fuse(client, *files, align=True))))
    assert image.shape[1] == pytest.approx(260 - 6, abs=2)  # cropped to what both show


def test_refuses_other_types(client, tmp_path):
    good = SAMPLES / "cat-A.png"
    for name, content in {
        "notes.txt": b"hello",
        "run.py": b"print()",
        "drawing.svg": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    }.items():
        path = tmp_path / name
        path.write_bytes(content)
        message = refused(client, good, path)
        assert name in message and "not read" in message
        assert str(root()) not in message


def test_refuses_what_is_no_image_inside(client, tmp_path):
    for name, content in {
        "text.png": b"hello",
        "vector.png": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        "cut.png": (SAMPLES / "cat-B.png").read_bytes()[:5000],
        "empty.jpg": b"",
    }.items():
        path = tmp_path / name
        path.write_bytes(content)
        message = refused(client, SAMPLES / "cat-A.png", path)
        assert name in message and str(root()) not in message and "Traceback" not in message


def test_refuses_too_many_too_few_and_unequal(client, tmp_path):
    small = tmp_path / "small.png"
    cv2.imwrite(str(small), texture(0, 40, 50))
    assert "the limit is 3" in refused(client, *SAMPLES.glob("c*-*.png"))
    assert "at least two photographs" in refused(client, small)
    message = refused(client, small, SAMPLES / "cat-A.png")
    assert "50×40" in message and "512×384" in message


def test_refuses_too_many_pixels(client, tmp_path):
    for i, size in enumerate([(1100, 1000), (900, 900), (900, 900), (900, 900)]):
        cv2.imwrite(str(tmp_path / f"{i}.png"), np.full((*size, 3), 10 * i, np.uint8))
    files = [tmp_path / f"{i}.png" for i in range(4)]
    assert "0.png has 1000×1100 pixels" in refused(client, *files[:2])
    assert "2.5 megapixels together; the limit is 2" in refused(client, *files[1:])
    cv2.imwrite(str(files[0]), np.zeros((400, 951, 3), np.uint8))  # with two others 2,000,400
    assert "2.1 megapixels together; the limit is 2" in refused(client, *files[:3])


def test_refuses_a_decompression_bomb_by_its_head(client, tmp_path):
    bomb = tmp_path / "bomb.png"
    bomb.write_bytes(png(12000, 12000, bytes(100)))
    assert "12000×12000" in refused(client, bomb, SAMPLES / "cat-A.png")


def test_refuses_too_many_bytes_before_they_are_kept(address):
    def upload(size: int, count: int = 1) -> httpx.Response:
        files = [("files", ("a.png", os.urandom(size), "image/png"))] * count
        return httpx.post(f"{address}gradio_api/upload", files=files)

    before = size_of(files_below(root()))
    assert upload(3_000_000).status_code == 413
    assert "5 MB" in upload(1_900_000, 4).text
    stream = httpx.post(f"{address}gradio_api/upload", content=iter([b"x"]))
    assert stream.status_code == 411
    assert size_of(files_below(root())) <= before + 3_000_000


def test_disk_is_bounded(backend):
    with serve(backend, Limits(disk_megabytes=1)) as page:
        files = [("files", ("a.png", os.urandom(700_000), "image/png"))]
        url = f"{page.local_url}gradio_api/upload"
        assert httpx.post(url, files=files).status_code == 200
        full = httpx.post(url, files=files)
        assert full.status_code == 503 and "try again" in full.text


def test_crafted_requests_reach_no_other_file_and_fetch_nothing(client):
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):  # noqa: N802
            asked.append(self.path)
            self.send_error(404)

    def crafted(path: str) -> list[dict]:
        return [{"path": path, "meta": {"_type": "gradio.FileData"}}] * 2

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{other.server_port}/a.png"
        for path in (url, "/etc/passwd", str(Path(app.__file__)), f"{root()}/../../etc/passwd"):
            with pytest.raises(AppError) as error:
                client.predict(crafted(path), False, api_name="/fuse")
            assert "root:" not in str(error.value)
        other.shutdown()
    assert not asked


def test_files_go_with_the_visitor(address, tmp_path):
    def files() -> set[Path]:
        return files_below(root())

    cv2.imwrite(str(tmp_path / "a.png"), texture(11, 60, 70))
    cv2.imwrite(str(tmp_path / "b.png"), texture(12, 60, 70))
    before = files()
    visitors = [Client(address, verbose=False) for _ in range(2)]
    for visitor in visitors:
        fuse(visitor, tmp_path / "a.png", tmp_path / "b.png")
    uploads = {path for path in files() - before if path.name in ("a.png", "b.png")}
    assert len(uploads) == 2  # both visitors have the same
    visitors[0].close()
    assert wait_until(lambda: len([x for x in files() - before if "Fusion" in x.name]) == 1)
    assert uploads <= files()
    visitors[1].close()
    assert wait_until(lambda: files() <= before)


def test_what_nobody_removes_is_swept(tmp_path):
    def upload(name: str) -> Path:
        path = tmp_path / f"hash-{name}" / "a.png"
        path.parent.mkdir()
        path.write_bytes(b"a")
        return path

    sessions = Sessions(tmp_path, seconds=0.5)
    with sessions.awaiting("left") as left:
        sessions.note("left", [upload("left"), SAMPLES / "cat-A.png"])
        unclaimed, kept = upload("unclaimed"), upload("kept")
        time.sleep(0.6)
        with sessions.awaiting("open") as folder:
            sessions.note("open", [kept])
            new = upload("new")
            assert unclaimed.exists()
            sessions.sweep()
            assert {path for path in tmp_path.rglob("*") if path.is_file()} == {kept, new}
            assert folder.exists() and not left.exists()
    assert (SAMPLES / "cat-A.png").exists()


def test_who_uploads_again_is_still_there(tmp_path, monkeypatch):
    sessions, start = Sessions(tmp_path, seconds=60), time.time()
    monkeypatch.setattr("page.sessions.time.time", lambda: start - 90)
    sessions.note("one", [])
    path = tmp_path / "hash" / "a.png"
    path.parent.mkdir()
    path.write_bytes(b"a")
    os.utime(path, (start - 90, start - 90))
    monkeypatch.setattr("page.sessions.time.time", lambda: start - 30)
    sessions.note("one", [path])
    monkeypatch.setattr("page.sessions.time.time", lambda: start)
    sessions.sweep()
    assert path.exists()


def test_no_visitor_waits_beyond_the_bound_and_closing_leaves_nothing(backend, monkeypatch):
    started, go_on = threading.Event(), threading.Event()

    def slow(*args):
        started.set()
        assert go_on.wait(20)
        return fuse_uploads(*args)

    monkeypatch.setattr(actions, "fuse_uploads", slow)
    with serve(backend, LIMITS) as page:
        folder = root()
        clients = [Client(page.local_url, verbose=False) for _ in range(3)]
        pair = [handle_file(SAMPLES / f"cat-{x}.png") for x in "AB"]
        clients[0].submit(pair, False, api_name="/fuse")
        assert started.wait(10)
        waiting = clients[1].submit(pair, False, api_name="/fuse")
        assert wait_until(lambda: len(page._queue) == 1)
        with pytest.raises(Exception, match="(?i)queue is full"):
            clients[2].predict(pair, False, api_name="/fuse")
        clients[0].close()
        assert wait_until(lambda: not list(folder.glob("results-*")))
        go_on.set()
        assert fused_file(waiting.result(20)).exists()
        for client in clients[1:]:
            client.close()
        assert wait_until(lambda: not files_below(folder))
    assert not folder.exists()


@pytest.fixture
def slow(monkeypatch) -> list[int]:
    """Fusing that goes on until its visitor stops it, and counts the photographs."""
    done: list[int] = []

    def fuse_slowly(backend, paths, align, folder, progress):
        for number in progress(range(500), "fusing"):
            done.append(number)
            time.sleep(0.02)
        raise AssertionError("nobody stopped it")

    monkeypatch.setattr(actions, "fuse_uploads", fuse_slowly)
    return done


@pytest.mark.parametrize("way", ["stop", "close"])
def test_who_stops_or_leaves_ends_the_fusing(address, slow, way):
    visitor, next_visitor = (Client(address, verbose=False) for _ in range(2))
    before = set(root().glob("results-*"))
    pair = [handle_file(SAMPLES / f"cat-{x}.png") for x in "AB"]
    job = visitor.submit(pair, False, api_name="/fuse")
    assert wait_until(lambda: len(slow) > 2)
    if way == "stop":
        next_visitor.predict(api_name="/stop")  # ends nothing but the visitor's own
        visitor.predict(api_name="/stop")
        with pytest.raises(AppError, match="Stopped"):
            job.result(10)
    else:
        visitor.close()
    assert wait_until(lambda: set(root().glob("results-*")) == before)
    time.sleep(0.1)
    count = len(slow)
    time.sleep(0.3)
    assert len(slow) == count < 400
    visitor.close()
    next_visitor.close()


def test_a_result_stays_until_the_next_is_there(client, tmp_path):
    """The page shows it, and offers it for download, while and after another cannot be fused."""
    outputs = fuse(client, SAMPLES / "cat-A.png", SAMPLES / "cat-B.png")
    kept = [path for path in root().glob("results-*/cat-Fusion.png")]
    cv2.imwrite(str(tmp_path / "cat-C.png"), texture(0, 40, 50))
    assert "50×40" in refused(client, SAMPLES / "cat-A.png", tmp_path / "cat-C.png")
    assert [path.read_bytes() for path in kept] == [fused_file(outputs).read_bytes()]
    fuse(client, SAMPLES / "coffee-A.png", SAMPLES / "coffee-B.png")
    assert not any(path.exists() for path in kept)


def test_errors_speak_of_the_page(client, tmp_path):
    """Neither of options of the command line nor of a file that is right."""
    cv2.imwrite(str(tmp_path / "other.png"), texture(3, 384, 512))
    files = handle_file(SAMPLES / "cat-A.png"), handle_file(tmp_path / "other.png")
    with pytest.raises(AppError) as error:
        client.predict(list(files), True, api_name="/fuse")
    said = str(error.value)
    assert said.startswith("These photographs: fewer than two frames can be used")
    assert said.endswith("fuse them without aligning them first.") and "--" not in said


def test_too_little_memory_is_said(client, stack, monkeypatch):
    def without_memory(*args):
        raise MemoryError

    monkeypatch.setattr(actions, "fuse_uploads", without_memory)
    assert "too little memory" in refused(client, *stack)


def test_page_needs_no_other_server(address):
    answer = httpx.get(address)
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'self'" in policy and "http" not in policy
    config = httpx.get(f"{address}config").json()
    assert config["analytics_enabled"] is False
    assert "fonts.googleapis" not in answer.text + httpx.get(f"{address}theme.css").text


@pytest.mark.parametrize(
    "options", [["--max-files", "0"], ["--host", "256.0.0.1"], ["--weights", "absent.safetensors"]]
)
def test_options_that_cannot_be(options, capsys):
    assert app.main(options) == 2
    error = capsys.readouterr().err
    assert options[1] in error and "Traceback" not in error


def test_a_frame_that_differs_is_named(client, tmp_path, stack):
    dark = (cv2.imread(str(stack[1]), cv2.IMREAD_UNCHANGED) * 0.6).astype(np.uint16)
    cv2.imwrite(str(stack[1]), dark)
    outputs = fuse(client, *stack, align=True)
    assert f"{stack[1].name}: it is darker than the other frames" in outputs[0]


def test_a_full_disk_is_said(client, address, stack, monkeypatch):
    """While files come, and while results are written."""
    with room(2000):
        photograph = {"files": ("new.png", bytes(5000))}
        answer = httpx.post(f"{address}gradio_api/upload", files=photograph)
    assert answer.status_code == 507 and "disk of the server is full" in answer.text

    def without_room(*args):
        with room(2000):
            return fuse_uploads(*args)

    with monkeypatch.context() as patch:
        patch.setattr(actions, "fuse_uploads", without_room)
        assert "disk of the server is full" in refused(client, *stack)
    assert fused_file(fuse(client, *stack)).exists()
