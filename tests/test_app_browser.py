"""The page in Chromium, as its users have it.

The README's picture of it is made here:

    APP_SCREENSHOT=docs/figures/app.jpg python -m pytest tests/test_app_browser.py
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("gradio", reason="the page needs gradio")
pytest.importorskip("playwright", reason="tests in the browser need playwright")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
if CHROMIUM is None:
    pytest.skip("tests in the browser need chromium", allow_module_level=True)

from playwright.sync_api import Browser, Page, expect, sync_playwright  # noqa: E402

from fusion.backends import ONNX, load_backend  # noqa: E402
from page import actions  # noqa: E402
from page.limits import Limits  # noqa: E402
from page.server import serve  # noqa: E402
from run_inference import main as run_inference  # noqa: E402
from utils.images import read_photo  # noqa: E402

SAMPLES = Path(__file__).parents[1] / "data/samples"
PAIR = [SAMPLES / "coffee-A.png", SAMPLES / "coffee-B.png"]
OPTIONS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
PATIENCE = 60_000  # ms, for a busy machine


@pytest.fixture(scope="session")
def weights(weights: str) -> str:
    """For the README's picture those that are shipped."""
    return str(ONNX) if "APP_SCREENSHOT" in os.environ else weights


@pytest.fixture(scope="module")
def address(weights) -> Iterator[str]:
    with serve(load_backend(weights), Limits()) as page:
        yield page.local_url


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=OPTIONS)
        yield browser
        browser.close()


@pytest.fixture(params=[(1280, 900)], ids=["desktop"])
def page(request, browser, address) -> Iterator[Page]:
    """The page just opened; whatever it asks of other servers fails the test."""
    width, height = request.param
    elsewhere = []

    def watch(asked) -> None:
        if not asked.url.startswith((address, "data:", "blob:")):
            elsewhere.append(asked.url)

    tab = browser.new_page(viewport={"width": width, "height": height})
    tab.set_default_timeout(PATIENCE)
    expect.set_options(timeout=PATIENCE)
    tab.on("request", watch)
    tab.goto(address)
    expect(tab.locator("#fuse")).to_be_visible()
    yield tab
    tab.close()
    assert not elsewhere


def upload(page: Page, *files: Path) -> None:
    page.set_input_files("#files input[type=file]", files)
    expect(page.locator("#files")).to_contain_text(files[-1].stem)


def fits(page: Page) -> bool:
    """Whether nothing sticks out sideways."""
    return page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_upload_fuse_compare_download(page, tmp_path, weights):
    upload(page, *PAIR)
    page.locator("#align input").uncheck()
    page.click("#fuse")
    expect(page.locator("#status")).to_contain_text("2 photographs fused")
    pictures = page.locator("#slider img")
    expect(pictures).to_have_count(2)
    for name in ("slider", "origin", "guidance", "boundary"):
        picture = page.locator(f"#{name} img").first
        expect(picture).to_be_visible()
        assert picture.evaluate("x => x.decode().then(() => x.naturalWidth)") == 512
    assert fits(page)

    def shown() -> set[str]:
        return {pictures.nth(i).get_attribute("src").rsplit("/", 1)[1] for i in range(2)}

    assert shown() == {"shown-0.jpg", "shown.jpg"}
    if target := os.environ.get("APP_SCREENSHOT"):
        page.mouse.move(0, 0)
        page.screenshot(path=target, full_page=True, quality=85)
        assert Path(target).stat().st_size < 300_000
    page.locator("#sources img").nth(1).click()
    page.wait_for_function(
        "[...document.querySelectorAll('#slider img')].some(x => x.src.endsWith('shown-1.jpg'))"
    )
    assert shown() == {"shown-1.jpg", "shown.jpg"}

    with page.expect_download() as download:
        page.click("#download")
    download.value.save_as(tmp_path / "page.png")
    given = ["--output", str(tmp_path), "--weights", weights]
    assert run_inference(["--input", *map(str, PAIR), *given]) == 0
    page_has, file_has = (
        read_photo(tmp_path / name).rgb.astype(int) for name in ("page.png", "coffee-Fusion.png")
    )
    assert abs(page_has - file_has).max() <= 1
    assert download.value.suggested_filename == "coffee-Fusion.png"


@pytest.mark.parametrize("page", [(390, 844)], ids=["phone"], indirect=True)
def test_sample_on_a_phone(page):
    assert fits(page)
    page.locator("#samples img").first.click()
    expect(page.locator("#status")).to_contain_text("2 photographs fused")
    expect(page.locator("#slider img").first).to_be_visible()
    expect(page.locator("#download")).to_be_visible()
    assert fits(page)


def test_text_file_is_refused_when_it_is_chosen(page, tmp_path):
    notes = tmp_path / "notes.txt"
    notes.write_text("hello")
    page.set_input_files("#files input[type=file]", [PAIR[0], notes])
    message = page.locator(".toast-body")
    expect(message).to_contain_text("notes.txt: files of type .txt are not read")
    page.get_by_label("Remove this file").nth(1).click()
    page.click("#fuse")
    expect(page.locator(".toast-body").first).to_contain_text("Choose at least two")
    expect(page.locator("#slider")).to_be_hidden()


def test_stop_is_there_while_photographs_are_fused(page, monkeypatch):
    def fuse_slowly(backend, paths, align, folder, progress):
        for _ in progress(range(3000), "fusing"):
            time.sleep(0.02)

    monkeypatch.setattr(actions, "fuse_uploads", fuse_slowly)
    expect(page.locator("#stop")).to_be_hidden()
    upload(page, *PAIR)
    page.click("#fuse")
    page.click("#stop")
    expect(page.locator("#status")).to_contain_text("Stopped.")
    expect(page.locator("#stop")).to_be_hidden()
    page.get_by_label("Remove this file").first.click()
    page.click("#fuse")
    expect(page.locator(".toast-body").first).to_be_visible()
    expect(page.locator("#stop")).to_be_hidden()


def test_markup_in_a_name_is_shown_as_text(page, tmp_path):
    odd = tmp_path / "<img src=x onerror=window.hit=1> & b.png"
    odd.write_bytes(b"")
    page.set_input_files("#files input[type=file]", odd)
    expect(page.locator(".toast-body")).to_contain_text("is empty")
    odd.write_bytes(PAIR[0].read_bytes())
    page.reload()
    upload(page, odd, PAIR[1])
    page.click("#fuse")
    expect(page.locator("#status")).to_contain_text("2 photographs fused")
    expect(page.locator("#status .legend span")).to_have_count(2)
    assert page.evaluate("window.hit") is None


@pytest.mark.parametrize(
    "name",
    [
        "<img src=x onerror=window.hacked=1>",
        "'\"><script>window.hacked=1<∕script>",
        "{{constructor.constructor('window.hacked=1')()}}",
        "javascript:window.hacked=1",
        "&lt;img src=x onerror=window.hacked=1&gt;",
    ],
)
def test_names_of_files_are_text_wherever_they_are_shown(page, tmp_path, name):
    """In the list of files, beside the results and in an error."""
    photographs = []
    for mark, source in zip("AB", PAIR, strict=True):
        photographs.append(tmp_path / f"{name}-{mark}.png")
        shutil.copy(source, photographs[-1])
    page.set_input_files("#files input[type=file]", photographs)
    page.locator("#align input").uncheck()
    page.click("#fuse")
    expect(page.locator("#status")).to_contain_text("2 photographs fused")
    page.get_by_label("Remove this file").first.click()
    broken = tmp_path / f"{name}.jpg"
    broken.write_bytes(b"no photograph")
    page.set_input_files("#files input[type=file]", [broken])
    expect(page.locator(".toast-body").first).to_be_visible()
    assert page.evaluate("window.hacked") is None
