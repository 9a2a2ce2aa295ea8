"""Every kind of report of the emulator through trund and trun-client, as docs/emulator-reports.md shows it; the checks
and the trace on the wire."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from conftest import BUILD
from daemon import Daemon
from reports import PAGE, REPORTS, Report, steady, write

CLIENT = BUILD / "bin/trun-client"


def run(daemon: Daemon, folder: Path, words: list[str]) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(folder), "TRUN_ADDRESS": f"unix:{daemon.socket}"}
    return subprocess.run([CLIENT, *words], cwd=folder, env=environment, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("report", REPORTS, ids=lambda r: r.name)
def test_a_report_looks_as_the_page_shows_it(daemon: Daemon, tmp_path: Path, report: Report) -> None:
    done = run(daemon, tmp_path, write(report, tmp_path))
    text = done.stdout + done.stderr
    assert done.returncode == (0 if report.name == "traced" else 5), text
    for words in report.shows:
        assert words in text, text
    assert steady(text) in PAGE.read_text(), f"run tests/integration/reports.py to renew the page\n{text}"


def test_without_the_checks_their_kernels_run(daemon: Daemon, tmp_path: Path) -> None:
    for report in REPORTS:
        if "--check" not in report.words:
            continue
        words = write(report, tmp_path)
        done = run(daemon, tmp_path, words[: words.index("--check")])
        assert done.returncode == 0, done.stderr


def test_a_race_has_both_halves_in_json(daemon: Daemon, tmp_path: Path) -> None:
    import json

    report = next(r for r in REPORTS if r.name == "counter")
    done = run(daemon, tmp_path, [*write(report, tmp_path), "--json"])
    error = json.loads(done.stdout)["error"]
    assert error["reason"] == "RACE" and error["exit_code"] == 5
    assert error["fault"]["program"] == [1, 0, 0] and error["fault"]["nearest_argument"].startswith("argument 0")
    other = error["fault"]["other"]
    assert other["program"] == [0, 0, 0] and other["source_line"] == 2 and other["role"] == "earlier write"


def test_a_check_that_does_not_exist_is_a_wrong_command_line(daemon: Daemon, tmp_path: Path) -> None:
    report = REPORTS[0]
    done = run(daemon, tmp_path, [*write(report, tmp_path), "--check", "everything"])
    assert done.returncode == 2 and "uninit" in done.stderr
    done = run(daemon, tmp_path, [*write(report, tmp_path), "--trace", "line", "--trace-thread", "1,x"])
    assert done.returncode == 3 or done.returncode == 2, done.stderr
    assert "--trace-thread" in done.stderr


def test_the_end_of_a_trace_comes_with_a_fault(daemon: Daemon, tmp_path: Path) -> None:
    report = REPORTS[0]
    done = run(daemon, tmp_path, [*write(report, tmp_path), "--trace", "line", "--trace-thread", "31"])
    assert done.returncode == 5 and "the trace ends with\nkernel.py:3" in done.stderr
