"""Every command of the README runs, in order, with nothing but what those before it have made.

Its options and links are checked by test_docs.py.
"""

from __future__ import annotations

import pytest

from configs.schema import load_config
from tests import readme
from tests.commands import ROOT

CONFIGS = [str(path.relative_to(ROOT)) for path in sorted(ROOT.glob("configs/**/*.yaml"))]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A copy of the repository in which all of them ran."""
    folder = readme.make_copy(tmp_path_factory.mktemp("readme") / "mmfnet")
    rows = list(readme.run(folder))
    assert [row for row in rows if row.failed] == []
    assert sum(row.seconds is not None for row in rows) > 20
    return folder


@pytest.mark.parametrize("name", CONFIGS)
def test_the_folders_of_a_config_are_what_commands_of_the_readme_make(name, checkout):
    config = load_config(ROOT / name)
    for part in (config.data, config.validation):
        for folder in filter(None, (part.photographs, part.cutouts)):
            assert not folder.startswith("/") and any((checkout / folder).iterdir()), folder
