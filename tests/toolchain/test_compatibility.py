"""docs/compatibility.md against the compilers (its targets once more through the daemon: test_versions.py)."""

from __future__ import annotations

import compatibility
import pytest
from versions import SAMPLE


@pytest.fixture(scope="module")
def found() -> dict[str, dict[tuple[str, str], str]]:
    workers = compatibility.Workers()
    cells = compatibility.measure(workers, SAMPLE, targets=False)
    workers.close()
    return cells


def test_the_page_says_what_the_compilers_do(found: dict[str, dict[tuple[str, str], str]]) -> None:
    assert compatibility.differences(found) == []


def test_what_a_version_makes_it_takes_back(found: dict[str, dict[tuple[str, str], str]]) -> None:
    for title in compatibility.LEVEL_TITLES.values():
        for version in SAMPLE:
            assert found[title][version, version] == "yes", (title, version)
