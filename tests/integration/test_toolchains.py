"""Toolchains from the command line: installed with a bar on a terminal, adopted and left as they were."""

from __future__ import annotations

import hashlib
import os
import pty
import re
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import kernels
import pytest
from conftest import BUILD, TOOLCHAINS
from daemon import Daemon
from test_command_line import CLIENT, CommandLine

# A Python that makes "virtual environments" out of $MODEL, and whose pip takes its time over a download. The
# environment greets as a worker of Triton 3.6.0 does (docs/formats/frames.md).
HELLO = '{"op":"hello","protocol":1,"triton":"3.6.0"}'
WORKER = f"""#!/bin/sh
printf '\\{len(HELLO):03o}\\000\\000\\000\\000\\000\\000\\000%s' '{HELLO}' >&3
exec cat <&3
"""
PYTHON = """#!/bin/sh
case "$2" in
venv) cp -r "$MODEL/." "$3" ;;
pip)
  [ -e "$MODEL/broken" ] && { echo "ERROR: something else"; exit 1; }
  echo "Downloading triton-3.6.0-cp311-cp311-x.whl (1.0 MB)"
  for part in 1 2 3 4 5 6; do
    head -c 150000 /dev/zero >>"$TMPDIR/wheel"
    sleep 0.5
  done
  echo "Installing collected packages: triton"
  mv "$(dirname "$0")/worker" "$0" ;;
esac
"""


def executable(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o700)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """What an environment is made of."""
    folder = tmp_path / "model"
    package = folder / "lib/python3.11/site-packages/triton"
    executable(folder / "bin/python", PYTHON.replace("$MODEL", str(folder)))
    executable(folder / "bin/worker", WORKER)
    executable(package / "backends/nvidia/bin/ptxas", "#!/bin/sh\necho release 12.8, V12.8.93\n")
    (package / "_C").mkdir()
    (package / "_C/libtriton.so").write_text("code")
    (package / "__init__.py").write_text("__version__ = '3.6.0'\n")
    return folder


@pytest.fixture
def trun(tmp_path: Path, model: Path) -> Iterator[CommandLine]:
    """A daemon with no toolchain, and the command line on it."""
    daemon = Daemon(tmp_path, BUILD, tmp_path / "toolchains", "--python", str(model / "bin/python"))
    daemon.start()
    yield CommandLine(f"unix:{daemon.socket}", tmp_path)
    assert daemon.stop() == 0


def test_an_install_shows_a_bar_on_a_terminal_and_wipes_it_away(trun: CommandLine) -> None:
    terminal, theirs = pty.openpty()
    install = subprocess.Popen(
        [CLIENT, "toolchains", "install", "3.6.0"], env=trun.environment, stdout=subprocess.PIPE, stderr=theirs
    )
    os.close(theirs)
    shown = b""
    try:
        while chunk := os.read(terminal, 4096):
            shown += chunk
    except OSError:
        pass  # its end: the other side is closed
    os.close(terminal)
    said, _ = install.communicate(timeout=60)
    lines = shown.decode().split("\r\x1b[2K")
    assert install.returncode == 0, lines
    bars = [
        re.fullmatch(r"installing 3\.6\.0  \[(#+)\.*\] +(\d+)%  \d+ s  downloading triton.*", line) for line in lines
    ]
    fractions = [int(bar[2]) for bar in bars if bar]
    assert max(map(len, lines)) < 80, "longer than a line of the terminal"
    assert len(set(fractions)) > 2 and fractions == sorted(fractions), lines
    assert lines[0] == "" and lines[-1] == "", "the last bar is wiped away, and nothing stands beside it"
    place = trun.folder / "toolchains/3.6.0"
    assert said.decode() == f"installed 3.6.0 (Triton 3.6.0) at {place}\n"
    (listed,) = trun.json("toolchains", "list")["toolchains"]
    assert listed["name"] == "3.6.0" and listed["usable"] and not listed["adopted"]
    assert trun.error("toolchains", "install", "3.6.0", code=3)["code"] == "ALREADY_EXISTS"
    trun("toolchains", "remove", "3.6.0")
    assert not place.exists()


def test_a_failed_install_says_what_pip_said_and_leaves_nothing(trun: CommandLine, model: Path) -> None:
    (model / "broken").touch()
    error = trun.error("toolchains", "install", "3.6.0", code=4)
    assert error["reason"] == "TOOLCHAIN_BROKEN" and "something else" in error["message"]
    assert trun.json("toolchains", "list")["toolchains"] == []
    assert list((trun.folder / "toolchains").iterdir()) == []


def state_of(folder: Path) -> dict[str, tuple[object, ...]]:
    """Every file and folder below: kind, mode, size, time of change, and what a file or a link holds."""
    state: dict[str, tuple[object, ...]] = {}
    for path in [folder, *folder.rglob("*")]:
        facts = path.lstat()
        content: object = None
        if stat.S_ISLNK(facts.st_mode):
            content = os.readlink(path)
        elif stat.S_ISREG(facts.st_mode):
            digest = hashlib.sha256()
            with path.open("rb") as file:
                while chunk := file.read(1 << 20):
                    digest.update(chunk)
            content = digest.hexdigest()
        state[str(path)] = (facts.st_mode, facts.st_size, facts.st_mtime_ns, content)
    return state


def test_an_adopted_environment_is_used_and_removed_and_stays_as_it_was(trun: CommandLine) -> None:
    environment = TOOLCHAINS / "3.4.0"
    before = state_of(environment)
    trun("toolchains", "adopt", environment, "--name", "mine")
    (listed,) = trun.json("toolchains", "list")["toolchains"]
    assert listed["adopted"] and listed["version"] == "3.4.0" and listed["usable"]
    made = trun.json("compile", kernels.EXAMPLES / "vector_add.ttir", "--target", "sm_90", "--to", "cubin", "-o", "out")
    assert made["kernel"]["toolchain"] == "mine"
    words = ["--signature", "*f32:16, *f32:16, *f32:16, i32, 1024", "--to", "ptx", "-o", "source"]
    assert trun.json("compile", f"{kernels.EXAMPLES}/kernels.py:vector_add", *words)["kernel"]["toolchain"] == "mine"
    trun("toolchains", "remove", "mine")
    assert trun.json("toolchains", "list")["toolchains"] == []
    after = state_of(environment)
    assert len(before) > 100
    assert after == before, sorted(path for path in before.keys() | after.keys() if before.get(path) != after.get(path))
