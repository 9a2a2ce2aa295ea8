"""Completion as a person has it: a line is begun in a real shell, Tab is pressed, the shell runs what came of it."""

from __future__ import annotations

import os
import pty
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import BUILD, TOOLCHAINS
from daemon import Daemon
from kernels import EXAMPLES

CLIENT = BUILD / "bin/trun-client"
# Asks the real program for scripts and words, says what it was run with otherwise.
STAND_IN = f"""#!/bin/sh
[ "$1" != completion ] || exec {CLIENT} "$@"
printf 'RAN<%s>\\n' "$*"
"""
START = {
    "bash": (["bash", "--norc", "--noprofile", "-i"], "source <(trun-client completion bash)"),
    "zsh": (["zsh", "-f", "-i"], "autoload -U compinit; compinit -D; source <(trun-client completion zsh)"),
}
LINES = [
    ("toolchains inst", "toolchains install"),
    ("cache stats --js", "cache stats --json"),
    ("--addr", "--address"),
    ("toolchains options 3.9", "toolchains options 3.9.0"),
    ("run x.ttir --toolchain 3.9", "run x.ttir --toolchain 3.9.0"),
    ("run x.ttir --device emulator:1", "run x.ttir --device emulator:1"),
    ("compile x.ttir --to cub", "compile x.ttir --to cubin"),
    ("cache show {key:.8}", "cache show {key}"),
    ("cache unpin {key:.8}", "cache unpin {key}"),
    ("run a_fi", "run a_file.ttir"),
]


@pytest.fixture(scope="module")
def environment(daemon: Daemon, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("completion")
    (folder / "trun-client").write_text(STAND_IN)
    (folder / "trun-client").chmod(0o755)
    (folder / "a_file.ttir").write_text("")
    words = {"PATH": f"{folder}:/usr/bin:/bin", "HOME": str(folder), "FOLDER": str(folder), "TERM": "dumb", "PS1": "$ "}
    return words | {"TRUN_ADDRESS": f"unix:{daemon.socket}", "TRUN_TOOLCHAINS_DIR": str(TOOLCHAINS)}


@pytest.fixture(scope="module")
def key(environment: dict[str, str]) -> str:
    command = [CLIENT, "compile", EXAMPLES / "vector_add.ttir", "--to", "ttgir", "-o", environment["FOLDER"]]
    subprocess.run(command, env=environment, check=True, capture_output=True)
    return words("keys", environment)[0]


def words(kind: str, environment: dict[str, str]) -> list[str]:
    done = subprocess.run([CLIENT, "completion", kind], env=environment, check=True, capture_output=True, text=True)
    return done.stdout.split()


class Shell:
    def __init__(self, name: str, environment: dict[str, str]) -> None:
        command, setup = START[name]
        self.process, self.terminal = pty.fork()
        if self.process == 0:
            os.chdir(environment["FOLDER"])
            os.execvpe(command[0], command, environment)
        self.text = ""
        self.type(f"{setup}; echo READY$((1 + 1))\n")
        self.wait_for("READY2")

    def type(self, keys: str) -> None:
        os.write(self.terminal, keys.encode())

    def wait_for(self, text: str, timeout: float = 20) -> str:
        """What the shell wrote until `text`, which is taken away."""
        deadline = time.monotonic() + timeout
        while text not in self.text:
            left = deadline - time.monotonic()
            readable, _, _ = select.select([self.terminal], [], [], max(left, 0))
            if not readable:
                pytest.fail(f"no {text!r} in {self.text[-500:]!r}")
            self.text += os.read(self.terminal, 65536).decode(errors="replace")
        before, _, self.text = self.text.partition(text)
        return before

    def complete(self, line: str) -> str:
        self.type(f"trun-client {line}\t")
        self.type("\n")
        self.wait_for("RAN<")
        return self.wait_for(">").strip()

    def close(self) -> None:
        self.type("\x03\nexit\n")
        os.waitpid(self.process, 0)
        os.close(self.terminal)


@pytest.fixture(scope="module", params=list(START))
def shell(request: pytest.FixtureRequest, environment: dict[str, str]) -> Iterator[Shell]:
    if shutil.which(request.param) is None:
        pytest.fail(f"{request.param} is not installed: deploy/setup.sh --for tests")
    running = Shell(request.param, environment)
    yield running
    running.close()


@pytest.mark.parametrize(("begun", "whole"), LINES)
def test_a_line_that_was_begun_is_completed(shell: Shell, key: str, begun: str, whole: str) -> None:
    assert shell.complete(begun.format(key=key)) == whole.format(key=key)


@pytest.mark.parametrize(("begun", "whole"), LINES)
def test_fish_knows_the_words_too(environment: dict[str, str], key: str, begun: str, whole: str) -> None:
    script = "trun-client completion fish | source; complete -C $argv[1]"
    command = ["fish", "--no-config", "-c", script, "trun-client " + begun.format(key=key)]
    done = subprocess.run(command, env=environment, cwd=environment["FOLDER"], capture_output=True, text=True)
    offered = [line.split("\t")[0] for line in done.stdout.splitlines()]
    assert offered == [whole.format(key=key).split()[-1]], done.stderr


def test_where_no_daemon_runs_there_are_no_words_and_none_is_started(
    environment: dict[str, str], tmp_path: Path
) -> None:
    alone = environment | {"XDG_RUNTIME_DIR": str(tmp_path)}
    del alone["TRUN_ADDRESS"]
    done = subprocess.run([CLIENT, "completion", "keys"], env=alone, capture_output=True, text=True)
    assert done.returncode != 0 and done.stdout == "" and "UNAVAILABLE" in done.stderr
    assert not list(tmp_path.rglob("*.sock"))
    assert words("levels", alone) == ["ttir", "ttgir", "llir", "ptx", "cubin"]
