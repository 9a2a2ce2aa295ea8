"""The emulator's reports, checks and traces through trund and trun-client. What is said of each kind of mistake is held
to docs/emulator-reports.md by the emulator's own test; here the way of a report to the command line is."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from conftest import BUILD, ROOT
from daemon import Daemon
from kernels import metadata

CLIENT = BUILD / "bin/trun-client"
KERNELS = ROOT / "server/device/emulator/testdata/reports"


def run(daemon: Daemon, folder: Path, name: str, *words: str) -> subprocess.CompletedProcess[str]:
    (folder / f"{name}.ptx").write_text((KERNELS / f"{name}.ptx").read_text())
    (folder / f"{name}.json").write_text(metadata(name, num_warps=2 if name == "no_barrier" else 1))
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(folder), "TRUN_ADDRESS": f"unix:{daemon.socket}"}
    command = [CLIENT, "run", f"{name}.ptx", *words]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)


CHECKED = {
    "masked_load": (["--arg", "0=i32[32]", "--arg", "1=20"], "uninit", "UNINITIALIZED_READ"),
    "unwritten_shared": (["--arg", "0=i32[32]", "--arg", "1=1"], "uninit", "UNINITIALIZED_READ"),
    "no_barrier": (["--arg", "0=i32[64]", "--arg", "1=1"], "race", "RACE"),
    "counter": (["--arg", "0=i32[1]", "--arg", "1=1", "--grid", "4"], "race", "RACE"),
    "no_wait": (["--arg", "0=i32[32]", "--arg", "1=1"], "async", "RACE"),
}


@pytest.mark.parametrize("name", CHECKED)
def test_only_the_check_sees_it(daemon: Daemon, tmp_path: Path, name: str) -> None:
    words, check, reason = CHECKED[name]
    plain = run(daemon, tmp_path, name, *words)
    assert plain.returncode == 0, plain.stderr
    checked = run(daemon, tmp_path, name, *words, "--check", check)
    assert checked.returncode == 5 and f"[{reason}]" in checked.stderr, checked.stderr


def test_an_output_without_a_generator_is_the_kernels_to_write(daemon: Daemon, tmp_path: Path) -> None:
    words = ["--arg", "1=1", "--check", "uninit"]
    text = run(daemon, tmp_path, "counter", "--out", "0=i32[1]", *words).stderr
    assert "[UNINITIALIZED_READ]" in text, text
    assert "read of 4 bytes" in text and "that is 0 bytes into it: argument 0" in text, text
    for words_of_x in (["--out", "0=i32[1]:zeros"], ["--arg", "0=i32[1]"]):
        done = run(daemon, tmp_path, "counter", *words_of_x, *words)
        assert done.returncode == 0, done.stderr


def test_a_race_has_both_halves(daemon: Daemon, tmp_path: Path) -> None:
    words, check, _ = CHECKED["counter"]
    text = run(daemon, tmp_path, "counter", *words, "--check", check).stderr
    assert "note: earlier write: kernel.py:2 by program (0, 0, 0), thread (0, 0, 0), PTX line 22: st.global.b32" in text
    done = run(daemon, tmp_path, "counter", *words, "--check", check, "--json")
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
    words, _, _ = CHECKED["counter"]
    done = run(daemon, tmp_path, "counter", *words, "--check", "everything")
    assert done.returncode == 2 and "uninit" in done.stderr
    done = run(daemon, tmp_path, "counter", *words, "--trace", "line", "--trace-thread", "1,x")
    assert done.returncode != 0 and "--trace-thread" in done.stderr
