from __future__ import annotations

import json
import os
import pathlib
import signal
import subprocess
import sys

import pytest
import trun
from conftest import BUILD
from trun import _address, _daemon

FAKE = pathlib.Path(__file__).with_name("fake_trund.py")


@pytest.fixture
def runtime(folder: str, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """A runtime folder of its own, and a trund that is the fake one."""
    program = pathlib.Path(folder) / "fake-trund"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{FAKE}" "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("TRUN_TRUND", str(program))
    monkeypatch.setenv("XDG_RUNTIME_DIR", folder)
    monkeypatch.delenv("TRUN_ADDRESS", raising=False)
    source = str(pathlib.Path(trun.__file__).parents[1])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([source, str(FAKE.parent)]))
    return pathlib.Path(folder) / "trun"


def end(runtime: pathlib.Path) -> list[int]:
    """Ends the daemons that were started, and returns their ids."""
    pids = [int(line) for line in (runtime / "starts").read_text().split()]
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    return pids


def test_a_client_that_finds_no_daemon_starts_one(runtime: pathlib.Path) -> None:
    try:
        with trun.connect() as session:
            assert session.started_daemon
            assert session.tensor([1.0, 2.0]).numpy().tolist() == [1, 2]
        with trun.connect() as again:
            assert not again.started_daemon
    finally:
        assert len(end(runtime)) == 1
    assert (runtime.stat().st_mode & 0o777) == 0o700


def test_many_clients_at_once_get_one_daemon(runtime: pathlib.Path) -> None:
    program = "import trun\nwith trun.connect() as s: print(s.tensor([3.0]).numpy()[0])"
    clients = [subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) for _ in range(3)]
    try:
        assert [client.communicate(timeout=60)[0] for client in clients] == [b"3.0\n"] * 3
    finally:
        assert len(end(runtime)) == 1


def test_clients_in_python_and_cpp_that_start_a_real_one_at_once_get_one(
    folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not (BUILD / "bin" / "trun-client").is_file():
        pytest.skip("trun-client is not built: set TRUN_BUILD_DIR")
    for name, value in {"HOME": folder, "XDG_RUNTIME_DIR": folder, "TRUN_TRUND": str(BUILD / "bin" / "trund")}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("TRUN_ADDRESS", raising=False)
    python = [sys.executable, "-c", "import trun\nwith trun.connect() as s: print(s.tensor([3.0]).numpy()[0])"]
    command_line = [str(BUILD / "bin" / "trun-client")]
    clients = [
        subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for words in [python, [*command_line, "devices"]] * 3
    ]
    try:
        ended = [(client.communicate(timeout=60), client.returncode) for client in clients]
        assert all(code == 0 for _, code in ended), ended
        status = subprocess.run([*command_line, "daemon", "status", "--json"], capture_output=True, check=True)
        assert [said for (said, _), _ in ended[::2]] == ["3.0\n"] * 3
        socket = f"{folder}/trun/trund.sock"
        daemons = [
            int(process.name)
            for process in pathlib.Path("/proc").glob("[0-9]*")
            if socket in (command := command_of(process)) and command.split("\0")[0].endswith("/trund")
        ]
        assert daemons == [json.loads(status.stdout)["pid"]]
    finally:
        subprocess.run([*command_line, "daemon", "stop"], capture_output=True)


def command_of(process: pathlib.Path) -> str:
    try:
        return (process / "cmdline").read_text()
    except OSError:
        return ""  # it has ended


def test_a_daemon_that_does_not_start_is_an_error_with_its_log(
    runtime: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_TRUND_FAILS", "1")
    with pytest.raises(trun.UnavailableError, match="(?s)exit status 3.*cache: locked"):
        trun.connect()


def test_no_daemon_is_started_for_an_address_that_was_given(
    runtime: pathlib.Path, monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    monkeypatch.setenv("TRUN_ADDRESS", f"unix:{folder}/other.sock")
    with pytest.raises(trun.UnavailableError):
        trun.connect()
    assert not (runtime / "starts").exists()


def test_a_trund_that_is_no_program_is_named(runtime: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRUN_TRUND", "/no/such/trund")
    with pytest.raises(trun.UnavailableError, match="/no/such/trund"):
        _daemon.find_trund()


def test_a_runtime_folder_that_others_may_enter_is_refused(
    runtime: pathlib.Path,
) -> None:
    runtime.mkdir(mode=0o755)
    runtime.chmod(0o755)
    with pytest.raises(trun.NotPermittedError, match="0700"):
        trun.connect()


def test_addresses_follow_the_rules_of_the_other_clients(monkeypatch: pytest.MonkeyPatch, folder: str) -> None:
    assert _address.parse_address("unix:/a/b") == "/a/b"
    assert _address.parse_address("unix:///a/b") == "/a/b"
    monkeypatch.setenv("TRUN_ADDRESS", "unix:/x.sock")
    assert _address.daemon_socket_path() == ("/x.sock", True)
    monkeypatch.delenv("TRUN_ADDRESS")
    monkeypatch.setenv("XDG_RUNTIME_DIR", folder)
    assert _address.daemon_socket_path() == (f"{folder}/trun/trund.sock", False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/no/such/folder")
    assert _address.daemon_socket_path()[0] == f"/tmp/trun-{os.geteuid()}/trund.sock"
