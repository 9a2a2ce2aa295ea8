"""trun-client against a real daemon: every subcommand, --json parsed, exit codes, errors that point at their place."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import shutil
import stat
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import BUILD, ROOT, TOOLCHAINS
from daemon import Daemon, wait_until
from kernels import ENDLESS, EXAMPLES, STORE, chain, metadata

sys.path.insert(0, str(ROOT / "examples"))
import reference

CLIENT = BUILD / "bin/trun-client"
ADD = ["--arg", "x_ptr=f32[4096]:randn(seed=1)", "--arg", "y_ptr=f32[4096]:randn(seed=2)", "--out", "out_ptr=f32[4096]"]
ADD += ["--arg", "n_elements=4096", "--grid", "cdiv(n_elements,1024)"]
BY_POSITION = ["--arg", "0=f32[4096]:ones", "--arg", "1=f32[4096]:ones", "--out", "2=f32[4096]", "--arg", "3=4096"]
BY_POSITION += ["--grid", "4"]


class CommandLine:
    def __init__(self, address: str | None, folder: Path) -> None:
        self.folder = folder
        self.environment = {"PATH": "/usr/bin:/bin", "HOME": str(folder), "XDG_RUNTIME_DIR": str(folder)}
        self.environment["TRUN_TOOLCHAINS_DIR"] = str(TOOLCHAINS)
        if address:
            self.environment["TRUN_ADDRESS"] = address

    def __call__(self, *words: object, code: int = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [CLIENT, *map(str, words)],
            env=self.environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == code, f"{words}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def on_a_terminal(self, *words: object) -> tuple[int, str, str]:
        """Exit code, what went to standard output (a pipe), and what to standard error, a terminal of 100 columns."""
        terminal, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 25, 100, 0, 0))
        client = subprocess.Popen(
            [CLIENT, *map(str, words)], env=self.environment, cwd=self.folder, stdout=subprocess.PIPE, stderr=theirs
        )
        os.close(theirs)
        shown = b""
        try:
            while chunk := os.read(terminal, 4096):
                shown += chunk
        except OSError:
            pass  # its end: the other side is closed
        os.close(terminal)
        said, _ = client.communicate(timeout=60)
        return client.returncode, said.decode(), shown.decode()

    def json(self, *words: object, code: int = 0) -> Any:
        done = self(*words, "--json", code=code)
        assert done.stderr == ""
        return json.loads(done.stdout)

    def error(self, *words: object, code: int) -> Any:
        return self.json(*words, code=code)["error"]


@pytest.fixture
def trun(daemon: Daemon, tmp_path: Path) -> CommandLine:
    return CommandLine(f"unix:{daemon.socket}", tmp_path)


@pytest.fixture
def own_daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CommandLine]:
    """A user with no daemon and no TRUN_ADDRESS."""
    folder = tmp_path_factory.mktemp("own")
    folder.chmod(0o700)
    trun = CommandLine(None, folder)
    yield trun
    trun("daemon", "stop")


def test_a_wrong_command_line_is_exit_code_2(trun: CommandLine) -> None:
    assert "trun-client run --help" in trun("run", code=2).stderr
    assert trun.error("frobnicate", code=2)["exit_code"] == 2
    assert trun.error("run", "--frobnicate", code=2)["code"] == "USAGE"


def test_run_shows_saves_and_checks(trun: CommandLine) -> None:
    file = EXAMPLES / "vector_add.ttir"
    x = reference.randn(1, (4096,)).astype(np.float32)
    y = reference.randn(2, (4096,)).astype(np.float32)
    np.save(trun.folder / "ref.npy", x + y)
    report = trun.json("run", file, *ADD, "--save", "out_ptr=sum.npy", "--expect", "out_ptr=ref.npy", "--rtol", 0)
    assert report["ok"] and report["tensors"][0]["check"]["mismatches"] == 0
    np.testing.assert_array_equal(np.load(trun.folder / "sum.npy"), x + y)
    # Halves are exact: an element is wrong from atol + rtol · |expected| on, not at it.
    halves = trun.folder / "halves.npy"
    np.save(halves, np.full(4096, 2.5, np.float32))
    words = ["run", file, *BY_POSITION, "--expect", f"2={halves}"]
    for rtol, atol in ((0, 0.5), (0.2, 0), (0.1, 0.25)):
        assert trun.json(*words, "--rtol", rtol, "--atol", atol)["tensors"][-1]["check"]["ok"], (rtol, atol)
    for rtol, atol in ((0, 0.4999), (0.1999, 0), (0.1, 0.2499)):
        check = trun.json(*words, "--rtol", rtol, "--atol", atol, code=1)["tensors"][-1]["check"]
        assert check["mismatches"] == 4096 and (check["rtol"], check["atol"]) == (rtol, atol)
    again = trun.json("run", file, *ADD)
    assert again["kernel"]["cached"] and again["kernel"]["toolchain"]
    text = trun("run", file, *ADD).stdout
    for word in ("device", "toolchain", "cache", "hit", "compile", "launch", "out_ptr", "f32[4096]", "total"):
        assert word in text


def test_one_wrong_element_is_exit_code_1_and_named(trun: CommandLine) -> None:
    expected = reference.randn(1, (4096,)).astype(np.float32) + reference.randn(2, (4096,)).astype(np.float32)
    expected[1234] += 1
    np.save(trun.folder / "ref.npy", expected)
    words = ["run", EXAMPLES / "vector_add.ttir", *ADD, "--expect", "out_ptr=ref.npy"]
    check = trun.json(*words, code=1)["tensors"][0]["check"]
    assert not check["ok"] and check["mismatches"] == 1 and check["worst_index"] == [1234]
    assert "worst at [1234]" in trun(*words, code=1).stdout


def test_files_of_every_kind_go_in_and_come_out(trun: CommandLine) -> None:
    x = np.arange(4096, dtype=np.float32)
    np.save(trun.folder / "x.npy", x)
    words = ["--arg", "x_ptr=@x.npy", "--arg", "y_ptr=f32[n_elements]:full(0.5)", "--out", "out_ptr=f32[n_elements]"]
    words += ["--arg", "n_elements=4095", "--grid", "4", "--save", "2=sum.npy"]
    trun("run", EXAMPLES / "vector_add.ttir", *words)
    np.testing.assert_array_equal(np.load(trun.folder / "sum.npy"), (x + np.float32(0.5))[:4095])


def test_wrong_arguments_are_named(trun: CommandLine) -> None:
    file = EXAMPLES / "vector_add.ttir"
    missing = trun.error("run", file, "--arg", "x_ptr=f32[4]", code=3)
    assert missing["reason"] == "ARGUMENT" and "1 'y_ptr' (pointer to f32)" in missing["message"]
    assert "no argument 'z'" in trun.error("run", file, "--arg", "z=1", code=3)["message"]
    assert "given twice" in trun.error("run", file, *ADD, "--arg", "0=f32[4]", code=3)["message"]
    assert "absent.npy" in trun.error("run", file, "--arg", "x_ptr=@absent.npy", *ADD[2:], code=3)["message"]
    assert trun.error("run", file, *ADD[:-2], "--grid", "0", code=3)["reason"] == "LAUNCH_SHAPE"
    dtype = trun.error("run", file, "--arg", "x_ptr=f16[4096]", *ADD[2:], code=3)
    assert dtype["reason"] == "ARGUMENT"


def test_text_that_does_not_parse_is_shown_with_a_caret(trun: CommandLine) -> None:
    text = (EXAMPLES / "vector_add.ttir").read_text().replace("arith.addf", "arith.adddf", 1)
    (trun.folder / "bad.ttir").write_text(text)
    line = next(i for i, row in enumerate(text.splitlines(), 1) if "arith.adddf" in row)
    done = trun("run", "bad.ttir", *ADD, code=3)
    assert re.match(rf"bad\.ttir:{line}:\d+: error: .*\[INVALID_IR\]\n", done.stderr)
    assert "arith.adddf" in done.stderr.splitlines()[1] and done.stderr.splitlines()[2].rstrip().endswith("^")
    assert trun.error("run", "bad.ttir", *ADD, code=3)["location"]["line"] == line


def test_a_store_past_the_end_says_who_and_where(trun: CommandLine) -> None:
    (trun.folder / "store.ptx").write_text(STORE)
    (trun.folder / "store.json").write_text(metadata("store"))
    words = ["run", "store.ptx", "--out", "0=i32[32]", "--arg", "1=1", "--grid", "1"]
    fault = trun.error(*words, code=5)
    assert fault["reason"] == "ILLEGAL_ADDRESS" and fault["fault"]["thread"][0] == 31 and fault["fault"]["is_write"]
    text = trun(*words, code=5).stderr
    assert "write of 4 bytes" in text and "past its end" in text and "thread (31, 0, 0)" in text


def test_an_endless_kernel_ends_at_its_deadline(trun: CommandLine) -> None:
    (trun.folder / "endless.ptx").write_text(ENDLESS)
    (trun.folder / "endless.json").write_text(metadata("endless"))
    start = time.monotonic()
    error = trun.error("run", "endless.ptx", "--out", "0=i32[32]", "--deadline", "500ms", code=5)
    assert error["reason"] == "HUNG_KERNEL" and time.monotonic() - start < 20


def test_other_failures_have_their_exit_codes(trun: CommandLine) -> None:
    file = EXAMPLES / "vector_add.ttir"
    assert trun.error("run", "absent.ttir", code=3)["code"] == "NOT_FOUND"
    assert trun.error("run", file, *ADD, "--toolchain", "1.2.3", code=3)["reason"] == "TOOLCHAIN_NOT_FOUND"
    assert trun.error("run", file, *ADD, "-O", "num_wraps=8", code=3)["reason"] == "UNKNOWN_OPTION"
    assert trun.error("run", file, *ADD, "--session-memory", "1k", code=7)["reason"] in ("QUOTA", "OUT_OF_MEMORY")
    assert trun.error("devices", "--address", f"unix:{trun.folder}/none.sock", code=6)["reason"] == "UNAVAILABLE"
    (trun.folder / "empty.ttir").write_text("")
    assert trun.error("run", "empty.ttir", code=3)["code"] == "INVALID_ARGUMENT"


def test_repeat_measures(trun: CommandLine) -> None:
    report = trun.json("run", EXAMPLES / "vector_add.ttir", *ADD, "--repeat", 5)
    assert report["benchmark"]["launches"] == 5 and 0 < report["benchmark"]["min_us"] <= report["benchmark"]["max_us"]


def test_compile_writes_every_artifact_one_or_none(trun: CommandLine) -> None:
    file = EXAMPLES / "vector_add.ttir"
    made = trun.json("compile", file, "--to", "ptx", "-o", "out", "-O", "num_warps=8")
    assert made["kernel"]["num_warps"] == 8
    names = {Path(path).suffix for path in made["written"]}
    assert {".ttgir", ".llir", ".ptx", ".json"} <= names
    assert ".visible .entry" in trun("compile", file, "--to", "ptx", "-o", "-").stdout
    trun("compile", file, "--to", "cubin", "--target", "sm_90", "-o", "add.cubin")
    assert (trun.folder / "add.cubin").read_bytes()[:4] == b"\x7fELF"
    (ptx,) = (path for path in made["written"] if path.endswith(".ptx"))
    inputs = [word.replace("x_ptr", "0").replace("y_ptr", "1") for word in ADD[:4]]
    report = trun.json("run", ptx, *inputs, "--out", "2=f32[4096]", "--arg", "3=4096", "--grid", "4")
    assert report["ok"], "the metadata beside the PTX was found by itself"


def test_devices_toolchains_and_sessions_are_listed(trun: CommandLine) -> None:
    devices = trun.json("devices")["devices"]
    assert devices[0]["device"] == "emulator:0" and devices[0]["usable"]
    assert "emulator:0" in trun("devices").stdout
    toolchains = trun.json("toolchains", "list")["toolchains"]
    assert {t["name"] for t in toolchains} >= {"3.9.0"}
    options = {o["name"]: o for o in trun.json("toolchains", "options", "3.9.0")["options"]}
    assert options["num_warps"]["default"] == 4
    assert "num_warps" in trun("toolchains", "options", "3.9.0").stdout
    assert trun.error("toolchains", "remove", "1.2.3", code=3)["reason"] == "TOOLCHAIN_NOT_FOUND"
    assert trun.error("toolchains", "adopt", trun.folder, code=4)["reason"] == "TOOLCHAIN_BROKEN"
    assert trun.json("sessions", "list")["sessions"] == []


def test_a_session_of_another_client_is_listed_and_closed(trun: CommandLine, session: Any) -> None:
    listed = trun.json("sessions", "list")["sessions"]
    assert [s["session"] for s in listed] == [session.id]
    assert "tests" in trun("sessions", "list").stdout
    trun("sessions", "close", session.id)
    assert trun.json("sessions", "list")["sessions"] == []
    assert trun.error("sessions", "close", session.id, code=3)["reason"] == "SESSION_EXPIRED"


def test_the_cache_is_listed_pinned_exported_and_emptied(trun: CommandLine, tmp_path_factory: Any) -> None:
    key = trun.json("run", EXAMPLES / "vector_add.ttir", *ADD)["kernel"]["cache_key"]
    assert trun.json("cache", "stats")["entries"] >= 1
    entries = {e["key"]: e for e in trun.json("cache", "ls")["entries"]}
    assert key in entries
    assert entries[key]["kernel"] == "vector_add"
    assert key[:12] in trun("cache", "ls").stdout
    assert trun.json("cache", "show", key[:10])["entry"]["key"] == key
    level = entries[key]["blobs"][-1]["level"]
    assert trun("cache", "show", key[:10], "--level", level).stdout
    files = trun.json("cache", "show", key[:10], "-o", "shown")["written"]
    assert {Path(file).suffix[1:] for file in files} >= {"ttgir", "llir", "ptx", "json"}
    # What another Triton compiled runs without it: PTX and metadata are all that a launch needs.
    assert trun.json("run", "shown/vector_add.ptx", *BY_POSITION)["kernel"]["toolchain"] == ""
    assert trun.error("cache", "show", key[:10], "-o", "shown", "--level", "ptx", code=2)["code"] == "USAGE"
    trun("cache", "pin", key[:10])
    trun("cache", "evict", "--all")
    assert [e["key"] for e in trun.json("cache", "ls")["entries"]] == [key]
    trun("cache", "unpin", key[:10])
    verified = trun.json("cache", "verify")
    assert verified["entries"] >= 1 and verified["bad_blobs"] == 0
    trun("cache", "export", "all.trun")
    assert trun.json("cache", "evict", "--all")["evicted"] == 1
    assert trun.json("cache", "ls")["entries"] == []
    assert trun.json("cache", "import", "all.trun")["imported"] == 1
    assert trun.json("run", EXAMPLES / "vector_add.ttir", *ADD)["kernel"]["cached"]
    damaged = bytearray((trun.folder / "all.trun").read_bytes())
    damaged[len(damaged) // 2] ^= 1
    (trun.folder / "damaged.trun").write_bytes(damaged)
    assert trun.error("cache", "import", "damaged.trun", code=3)["reason"] == "CORRUPT"
    assert trun.error("cache", "show", "0" * 12, code=3)["code"] == "NOT_FOUND"


def test_an_entry_of_the_cache_is_named_by_a_prefix_that_is_its_own(trun: CommandLine) -> None:
    text = (EXAMPLES / "vector_add.ttir").read_text()
    for number in range(2):
        (trun.folder / "k.ttir").write_text(text.replace("@vector_add(", f"@vector_add_{number}("))
        trun("compile", "k.ttir", "--to", "ttgir", "-o", "out")
    keys = [entry["key"] for entry in trun.json("cache", "ls")["entries"]]
    assert len(keys) >= 2
    short = trun.error("cache", "evict", keys[0][:5], code=3)
    assert (short["code"], short["reason"]) == ("INVALID_ARGUMENT", "ARGUMENT") and "6" in short["message"]
    assert trun.json("cache", "evict", keys[0][:6])["evicted"] == 1
    assert [entry["key"] for entry in trun.json("cache", "ls")["entries"]] == keys[1:]
    assert trun.error("cache", "evict", keys[0], code=3)["code"] == "NOT_FOUND"
    trun("cache", "pin", keys[1])
    assert trun.error("cache", "evict", keys[1], code=3)["reason"] == "NOT_PERMITTED"
    assert trun.json("cache", "evict", keys[1], "--force")["evicted"] == 1


def test_the_device_of_the_environment_holds_where_the_command_names_none(trun: CommandLine) -> None:
    trun.environment["TRUN_DEVICE"] = "emulator:7"
    assert "emulator:7" in trun.error("run", EXAMPLES / "vector_add.ttir", *ADD, code=3)["message"]
    assert trun.json("run", EXAMPLES / "vector_add.ttir", *ADD, "--device", "emulator:0")["kernel"]


def test_doctor_and_version_answer(trun: CommandLine) -> None:
    assert trun.json("doctor")["ok"]
    assert "all good" in trun("doctor").stdout
    version = trun.json("version")
    assert version["client"] == version["server"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_name_every_subcommand(trun: CommandLine, shell: str) -> None:
    script = trun("completion", shell).stdout
    for word in ("run", "compile", "toolchains", "install", "doctor", "json"):
        assert word in script


def test_bash_completes_what_was_begun(trun: CommandLine) -> None:
    (trun.folder / "completion.bash").write_text(trun("completion", "bash").stdout)
    probe = (
        "source completion.bash; COMP_WORDS=(trun-client cache ex); COMP_CWORD=2; _trun_client; echo ${COMPREPLY[@]}"
    )
    done = subprocess.run(["bash", "-c", probe], cwd=trun.folder, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["export"]


def test_help_of_every_subcommand_has_text(trun: CommandLine) -> None:
    for name in (
        "run",
        "compile",
        "devices",
        "toolchains",
        "cache",
        "sessions",
        "daemon",
        "doctor",
        "version",
        "completion",
    ):
        assert "--help" in trun(name, "--help").stdout
    assert "Exit codes" in trun("--help").stdout


def test_a_private_daemon_starts_by_itself_stays_and_stops(own_daemon: CommandLine) -> None:
    assert own_daemon.json("daemon", "status", code=6) == {
        "running": False,
        "socket": f"{own_daemon.folder}/trun/trund.sock",
    }
    assert own_daemon.json("version")["server"] is None
    own_daemon("devices", "--no-start", code=6)
    own_daemon("devices")
    status = own_daemon.json("daemon", "status")
    assert status["running"] and status["private"]
    assert own_daemon.json("daemon", "start")["started"] is False
    assert own_daemon.json("daemon", "logs")["path"].endswith("trund.log")
    own_daemon("daemon", "logs", "-n", 5)
    assert own_daemon.json("daemon", "stop") == {"stopped": True, "running": False, "pid": status["pid"]}
    state = Path(f"/proc/{status['pid']}/stat")
    # Where nobody reaps orphans a dead process stays listed as a zombie.
    assert not state.exists() or state.read_text().rsplit(")", 1)[1].split()[0] == "Z"
    own_daemon("daemon", "status", code=6)


def test_without_a_runtime_folder_the_daemon_lives_in_an_owned_one_of_mode_0700(tmp_path: Path) -> None:
    trun = CommandLine(None, tmp_path)
    del trun.environment["XDG_RUNTIME_DIR"]
    folder = Path(f"/tmp/trun-{os.geteuid()}")
    words = [CLIENT, "daemon", "status", "--json"]
    before = subprocess.run(words, env=trun.environment, capture_output=True, text=True)
    if before.returncode == 0:
        pytest.skip(f"a daemon of this user lives in {folder}")  # it is not this test's to stop
    assert json.loads(before.stdout)["socket"] == f"{folder}/trund.sock"
    try:
        assert trun.json("run", EXAMPLES / "vector_add.ttir", *ADD)["ok"]
        info = folder.lstat()
        assert (stat.S_IMODE(info.st_mode), info.st_uid) == (0o700, os.geteuid())
        assert stat.S_IMODE((folder / "trund.sock").stat().st_mode) == 0o600
    finally:
        trun("daemon", "stop")


def test_a_runtime_folder_that_others_may_enter_is_refused(tmp_path: Path) -> None:
    trun = CommandLine(None, tmp_path)
    (tmp_path / "trun").mkdir()
    (tmp_path / "trun").chmod(0o755)
    assert "0700" in trun.error("devices", code=3)["message"]


def test_logs_are_followed_until_the_file_is_gone(own_daemon: CommandLine) -> None:
    own_daemon("daemon", "start")
    log = Path(own_daemon.json("daemon", "logs")["path"])
    words = [CLIENT, "daemon", "logs", "-n", "1", "-f"]
    with subprocess.Popen(words, env=own_daemon.environment, stdout=subprocess.PIPE, text=True) as follower:
        assert follower.stdout is not None
        last = log.read_text().splitlines()[-1]
        assert follower.stdout.readline().rstrip("\n") == last
        with log.open("a") as file:
            file.write("written later\n")
        lines = iter(follower.stdout.readline, "")
        assert "written later\n" in lines
        log.rename(log.with_suffix(".1"))
        assert follower.wait(timeout=20) == 0, "what is followed is gone, and so is the follower"
    with subprocess.Popen(words, env=own_daemon.environment, stderr=subprocess.PIPE, text=True) as absent:
        assert absent.wait(timeout=20) != 0 and absent.stderr is not None
        assert str(log) in absent.stderr.read()


def test_stop_cuts_running_work_after_its_deadline(own_daemon: CommandLine) -> None:
    (own_daemon.folder / "endless.ptx").write_text(ENDLESS)
    (own_daemon.folder / "endless.json").write_text(metadata("endless"))
    own_daemon("daemon", "start", "--", "--drain-deadline", "1h")
    words = ["run", "endless.ptx", "--out", "0=i32[32]", "--deadline", "60s", "--json"]
    running = subprocess.Popen(
        [CLIENT, *words], env=own_daemon.environment, cwd=own_daemon.folder, stdout=subprocess.PIPE
    )

    def launched() -> bool:
        return any(s["launches"] == 1 for s in own_daemon.json("sessions", "list")["sessions"])

    wait_until(launched, "the launch")
    start = time.monotonic()
    assert own_daemon.json("daemon", "stop", "--deadline", "200ms")["stopped"]
    assert time.monotonic() - start < 8
    said, _ = running.communicate(timeout=60)
    assert running.returncode == 6 and json.loads(said)["error"]["reason"] == "DRAINING", said


def test_clients_that_start_at_once_get_one_daemon(own_daemon: CommandLine) -> None:
    words = [CLIENT, "daemon", "status", "--json"]
    starters = [
        subprocess.Popen(
            [CLIENT, "devices"], env=own_daemon.environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        for _ in range(6)
    ]
    for starter in starters:
        _, error = starter.communicate(timeout=60)
        assert starter.returncode == 0, error
    status = json.loads(subprocess.run(words, env=own_daemon.environment, capture_output=True, check=True).stdout)

    def daemons() -> list[int]:
        processes = [(int(p.name), command(p)) for p in Path("/proc").iterdir() if p.name.isdigit()]
        with_socket = [(pid, line) for pid, line in processes if f"{own_daemon.folder}/trun/trund.sock" in line]
        return [pid for pid, line in with_socket if "trund" in line.split("\0")[0].rsplit("/", 1)[-1]]

    # Those that came second end once they get to run.
    wait_until(lambda: daemons() == [status["pid"]], "one daemon alone")


def command(process: Path) -> str:
    try:
        return (process / "cmdline").read_text()
    except OSError:
        return ""


def test_a_daemon_that_cannot_start_is_explained_with_its_log(own_daemon: CommandLine) -> None:
    done = own_daemon("daemon", "start", "--", "--cache-dir", "/proc/nowhere", code=6)
    assert "did not start" in done.stderr and "/proc/nowhere" in done.stderr


def test_a_result_that_cannot_be_written_is_an_error_and_a_reader_that_left_is_none(trun: CommandLine) -> None:
    words = [CLIENT, "toolchains", "list"]
    with open("/dev/full", "w") as full:
        done = subprocess.run(words, env=trun.environment, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 3 and "cannot write to standard output: No space left" in done.stderr
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(words, env=trun.environment, stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_terminal_gets_colours_and_a_pipe_does_not(trun: CommandLine) -> None:
    words = [CLIENT, "run", "absent.ttir"]
    assert "\x1b" not in subprocess.run(words, env=trun.environment, capture_output=True, text=True).stderr
    parent, child = pty.openpty()
    subprocess.run(words, env={**trun.environment, "TERM": "xterm"}, stdout=child, stderr=child)
    os.close(child)
    assert b"\x1b[1;31merror: " in os.read(parent, 4096)
    os.close(parent)


def test_a_compile_and_a_run_that_take_over_a_second_show_it_on_a_terminal(trun: CommandLine) -> None:
    (trun.folder / "long.ttir").write_text(chain(24_000))
    code, said, shown = trun.on_a_terminal("compile", "long.ttir", "--to", "ptx", "-o", "out")
    assert code == 0 and "\x1b" not in said, shown
    lines = shown.split("\r\x1b[2K")
    assert all(re.fullmatch(r"compiling  \d+ s  making (ttgir|llir|ptx)", line) for line in lines[1:-1]), lines
    assert len(lines) > 3 and lines[0] == lines[-1] == "", "shown more than once, and wiped away"
    (trun.folder / "endless.ptx").write_text(ENDLESS)
    (trun.folder / "endless.json").write_text(metadata("endless"))
    code, _, shown = trun.on_a_terminal("run", "endless.ptx", "--out", "0=i32[32]", "--deadline", "2s")
    lines = shown.split("\r\x1b[2K")
    assert code == 5 and lines[0] == "" and all(re.fullmatch(r"running  \d+ s", line) for line in lines[1:-1]), lines
    assert len(lines) > 3 and "HUNG_KERNEL" in lines[-1], "the error stands where the bar was"
    # What is faster shows nothing.
    assert trun.on_a_terminal("devices")[::2] == (0, "")


def test_quickstart_is_right_fast_and_notices_a_wrong_element(tmp_path: Path) -> None:
    environment = {**os.environ, "TRUN_BUILD_DIR": str(BUILD), "TMPDIR": str(tmp_path)}
    environment.pop("TRUN_ADDRESS", None)
    script = [ROOT / "examples/quickstart.sh", "--no-setup"]
    shutil.rmtree(ROOT / "build/quickstart/cache", ignore_errors=True)

    def shown(run: str) -> list[str]:
        done = subprocess.run(script, env=environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "Warning" not in done.stdout, "noise of a toolchain"
        first, again = done.stdout.split("again, from the cache:")
        for text in (first, again):
            assert re.search(r"^check +c_ptr: ok, largest error [0-9]", text, re.MULTILINE), text
        assert re.search(r"^cache +hit", again, re.MULTILINE), again
        for row in (r"device +emulator:0 +trun PTX emulator", r"toolchain +3\.9\.0 ", rf"cache +{run} "):
            assert re.search(rf"^{row}", first, re.MULTILINE), f"{row} is not in\n{first}"
        return re.findall(r"(\w+) [0-9.]+ m?s\b", first)

    assert {"ttgir", "llir", "ptx"} <= set(shown("miss")), "each stage has its time"
    started = time.monotonic()
    shown("hit")
    assert time.monotonic() - started < 5
    done = subprocess.run([*script, "--corrupt"], env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1 and "MISMATCH in 1 of" in done.stdout
    assert list(tmp_path.iterdir()) == [], "the private daemon's folder is gone"


def test_an_outside_project_finds_builds_and_runs_with_the_installed_library(daemon: Daemon, tmp_path: Path) -> None:
    def done(*words: object, **environment: str) -> str:
        ran = subprocess.run(
            list(map(str, words)), env={**os.environ, **environment}, capture_output=True, text=True, timeout=300
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr
        return ran.stdout

    done("cmake", "--install", BUILD, "--component", "client", "--prefix", tmp_path / "prefix")
    prefix = f"-DCMAKE_PREFIX_PATH={tmp_path / 'prefix'}"
    done("cmake", "-G", "Ninja", "-S", ROOT / "examples/cpp", "-B", tmp_path / "build", prefix)
    done("cmake", "--build", tmp_path / "build")
    said = done(tmp_path / "build/vector_add", EXAMPLES / "vector_add.ttir", TRUN_ADDRESS=f"unix:{daemon.socket}")
    assert "5000 sums are right" in said
