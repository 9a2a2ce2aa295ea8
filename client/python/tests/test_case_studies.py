"""docs/case_studies: the tables stand as the compilers make them, and the older kernel fits where the newer does not.

Of four versions; of all with TRUN_ALL_VERSIONS=1.
"""

from __future__ import annotations

import os
import pathlib
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator

import pytest
import trun
from conftest import BUILD, ROOT, started_daemon

STUDIES = ROOT / "docs" / "case_studies"
SAMPLE = [] if os.environ.get("TRUN_ALL_VERSIONS") == "1" else ["--versions", "3.1.0,3.2.0,3.3.1,3.9.0"]


@pytest.fixture(scope="module")
def daemon() -> Iterator[str]:
    with started_daemon("--emulator", "sm_80", "--emulator", "sm_90", "--emulator", "sm_86") as address:
        yield address


def run(daemon: str, folder: pathlib.Path, *words: str) -> subprocess.CompletedProcess[str]:
    source = str(pathlib.Path(trun.__file__).parents[1])
    environment = os.environ | {
        "TRUN_ADDRESS": daemon,
        "PYTHONPATH": source,
        "TRUN_CLIENT": str(BUILD / "bin/trun-client"),
    }
    command = [sys.executable, str(folder / "case_studies.py"), *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)


def test_the_tables_are_those_of_the_compilers_and_another_number_is_noticed(
    daemon: str, tmp_path: pathlib.Path
) -> None:
    ended = run(daemon, STUDIES, "tables", "--check", *SAMPLE)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    copy = tmp_path / "case_studies"
    shutil.copytree(STUDIES, copy)
    page = copy / "README.md"
    page.write_text(re.sub(r"(\| sm_80 \| 3\.9\.0 \| 255 \|) 114688", r"\1 98304", page.read_text()))
    ended = run(daemon, copy, "tables", "--check", *SAMPLE)
    assert ended.returncode == 1 and "114688" in ended.stdout, ended.stdout + ended.stderr


def test_the_older_version_s_backward_runs_on_sm_86_and_the_newer_ones_are_refused(
    daemon: str, tmp_path: pathlib.Path
) -> None:
    ended = run(daemon, STUDIES, "limit", *SAMPLE)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "98304 bytes of shared memory" in ended.stdout and "sm_86 has at most 101376" in ended.stdout
    copy = tmp_path / "case_studies"
    shutil.copytree(STUDIES, copy)
    kernel = copy / "attention_backward.py"
    kernel.write_text(kernel.read_text().replace("dp - delta", "dp + delta"))
    assert run(daemon, copy, "limit", "--versions", "3.2.0").returncode == 1
