"""The documentation is true: its commands run, its options exist, its links lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from configs.schema import merge
from tests.commands import (
    ROOT,
    blocks,
    commands,
    help_of,
    lay_out,
    mentions,
    pages,
    prose,
    run,
    script_of,
)

NAMES = [str(page.relative_to(ROOT)) for page in pages()]
RUNNING = [name for name in NAMES if any(block.marked for block in blocks(ROOT / name))]
OVERRIDE = re.compile(r"(run|seed|device|model|data|validation|train)(\.\w+)*=")


@pytest.fixture
def checkout(tmp_path, photographs, cutouts) -> Path:
    """A repository whose reader has photographs and cut-outs of their own."""
    folder = tmp_path / "mmfnet"
    lay_out(folder)
    mine = folder / "datasets/mine"
    mine.mkdir(parents=True)
    (mine / "photographs").symlink_to(photographs)
    (mine / "cutouts").symlink_to(cutouts)
    return folder


@pytest.mark.parametrize("name", RUNNING)
def test_marked_blocks_run(name, checkout):
    assert run(ROOT / name, checkout)


def test_a_failing_command_fails_with_its_output(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("<!-- run -->\n```bash\necho seen\nfalse\necho unseen\n```\n")
    with pytest.raises(AssertionError, match="seen") as failure:
        run(page, tmp_path)
    assert "unseen" not in str(failure.value)


def test_blocks_of_a_page_share_a_program_and_keep_their_lines(tmp_path):
    page = tmp_path / "page.md"
    program = "<!-- run -->\n```python\n{}\n```\n\n"
    unmarked = "```python\nraise SystemExit(3)\n```\n\n"
    page.write_text(program.format("x = 6") + unmarked + program.format("1 / (x - 6)"))
    with pytest.raises(AssertionError, match=r"line 12\b.*\n(.*\n)*ZeroDivisionError"):
        run(page, tmp_path)


@pytest.mark.filterwarnings("ignore:.*found in sys.modules")  # in this process it was imported
@pytest.mark.parametrize("name", NAMES)
def test_options_exist(name):
    for command in commands(ROOT / name) + mentions(ROOT / name):
        if (found := script_of(command)) is None:
            continue
        script, arguments = found
        known = help_of(script)
        for argument in arguments:
            if argument.startswith("--"):
                option = argument.partition("=")[0]
                assert re.search(rf"(?<![\w-]){option}(?![\w-])", known), f"{command}: {option}"
        merge({}, [argument for argument in arguments if OVERRIDE.match(argument)], command)


@pytest.mark.parametrize("name", NAMES)
def test_links_lead_somewhere(name):
    page = ROOT / name
    text = re.sub(r"`[^`\n]*`", "", prose(page))
    for link in re.findall(r"(?:\]\(|src=\")([^)\s\"]+)", text):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{name}: {link}"
        if anchor:
            assert anchor in anchors(target), f"{name}: {link}"


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives to the headings of a page."""
    headings = re.findall(r"^#+ +(.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_citation_says_what_the_project_says():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= set(citation)  # required by 1.2.0
    assert citation["cff-version"] == "1.2.0"
    project = (ROOT / "pyproject.toml").read_text()
    assert f'version = "{citation["version"]}"' in project
    assert (ROOT / "LICENSE").read_text().startswith(f"{citation['license']} License")
    paper = citation["preferred-citation"]
    bibtex = next(b.text for b in blocks(ROOT / "README.md") if b.language == "bibtex")
    assert paper["title"] in bibtex and str(paper["year"]) in bibtex
    names = [f"{author['family-names']}, {author['given-names']}" for author in paper["authors"]]
    assert " and ".join(names) in bibtex
