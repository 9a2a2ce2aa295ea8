"""The emulator's reports, checks and traces through trund and trun-client. docs/emulator-reports.md shows each kind."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import emulator_reports
import pytest
from conftest import BUILD, TOOLCHAINS
from daemon import Daemon

CLIENT = BUILD / "bin/trun-client"
COUNTER = ["--arg", "0=i32[1]", "--arg", "1=1", "--grid", "4"]


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    running = Daemon(tmp_path_factory.mktemp("trund"), BUILD, TOOLCHAINS, *emulator_reports.FLAGS)
    running.start()
    yield running
    running.stop()


def run(daemon: Daemon, folder: Path, name: str, *words: str) -> subprocess.CompletedProcess[str]:
    return emulator_reports.run(CLIENT, daemon, folder, name, list(words))


def test_the_page_shows_what_the_command_line_says(daemon: Daemon, tmp_path: Path) -> None:
    assert emulator_reports.PAGE.read_text() == emulator_reports.page(CLIENT, daemon, tmp_path)


@pytest.mark.parametrize("report", [r for r in emulator_reports.REPORTS if r.plain], ids=lambda r: r.name)
def test_only_the_check_sees_it(daemon: Daemon, tmp_path: Path, report: emulator_reports.Report) -> None:
    plain = run(daemon, tmp_path, report.name, *report.plain)
    assert plain.returncode == 0, plain.stderr
    found = run(daemon, tmp_path, report.name, *report.arguments)
    assert found.returncode == 5 and f"[{report.reason}]" in found.stderr, found.stderr


@pytest.mark.parametrize("report", [r for r in emulator_reports.REPORTS if r.reason], ids=lambda r: r.name)
def test_each_kind_has_its_reason(daemon: Daemon, tmp_path: Path, report: emulator_reports.Report) -> None:
    assert f"[{report.reason}]" in emulator_reports.section(CLIENT, daemon, tmp_path, report)


def test_an_output_without_a_generator_is_the_kernels_to_write(daemon: Daemon, tmp_path: Path) -> None:
    words = ["--arg", "1=1", "--check", "uninit"]
    text = run(daemon, tmp_path, "counter", "--out", "0=i32[1]", *words).stderr
    assert "[UNINITIALIZED_READ]" in text, text
    assert "read of 4 bytes" in text and "that is 0 bytes into it: argument 0" in text, text
    for words_of_x in (["--out", "0=i32[1]:zeros"], ["--arg", "0=i32[1]"]):
        done = run(daemon, tmp_path, "counter", *words_of_x, *words)
        assert done.returncode == 0, done.stderr


def test_a_race_has_both_halves(daemon: Daemon, tmp_path: Path) -> None:
    words = [*COUNTER, "--check", "race"]
    text = run(daemon, tmp_path, "counter", *words).stderr
    assert "note: earlier write: kernel.py:2 by program (0, 0, 0), thread (0, 0, 0), PTX line 22: st.global.b32" in text
    done = run(daemon, tmp_path, "counter", *words, "--json")
    error = json.loads(done.stdout)["error"]
    assert error["reason"] == "RACE" and error["fault"]["program"] == [1, 0, 0]
    assert error["fault"]["nearest_argument"].startswith("argument 0")
    other = error["fault"]["other"]
    assert other["role"] == "earlier write" and other["program"] == [0, 0, 0] and other["source_line"] == 2


def test_a_trace_shows_one_thread(daemon: Daemon, tmp_path: Path) -> None:
    words = ["--arg", "0=i32[32]", "--arg", "1=10", "--trace", "line,reg", "--trace-thread", "7"]
    done = run(daemon, tmp_path, "traced", *words)
    assert done.returncode == 0, done.stderr
    assert "kernel.py:4\n  PTX 22  add.u32                 %r4 = 0x00000047 (71)" in done.stdout


def test_the_end_of_a_trace_comes_with_a_fault(daemon: Daemon, tmp_path: Path) -> None:
    words = ["--arg", "0=i32[31]", "--arg", "1=31", "--trace", "line", "--trace-thread", "31"]
    done = run(daemon, tmp_path, "scale", *words)
    assert done.returncode == 5 and "the trace ends with\nkernel.py:3" in done.stderr, done.stderr


def test_a_check_that_does_not_exist_is_a_wrong_command_line(daemon: Daemon, tmp_path: Path) -> None:
    words = COUNTER
    done = run(daemon, tmp_path, "counter", *words, "--check", "everything")
    assert done.returncode == 2 and "uninit" in done.stderr
    done = run(daemon, tmp_path, "counter", *words, "--trace", "line", "--trace-thread", "1,x")
    assert done.returncode != 0 and "--trace-thread" in done.stderr
