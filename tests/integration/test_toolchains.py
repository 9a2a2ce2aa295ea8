"""Toolchains from the command line: installed by the real pip from an index on this machine, with a bar on a terminal;
adopted and left as they were."""

from __future__ import annotations

import hashlib
import os
import random
import re
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kernels
import pytest
from conftest import BUILD, ROOT, TOOLCHAINS
from daemon import Daemon, wait_until
from footprint import process_table
from package_index import PackageIndex
from test_command_line import CLIENT, CommandLine

VENV_PYTHON = """#!/bin/sh
[ "$2" = venv ] && exec cp -a "$MODEL/." "$3"
exec /usr/bin/python3 "$@"
"""
# The least that a worker imports of a Triton, and trund and install.sh look for; some padding to download.
TRITON = {
    "triton/__init__.py": "__version__ = '3.6.0'\n",
    "triton/_C/__init__.py": "",
    "triton/_C/libtriton/__init__.py": "ir = llvm = None\n",
    "triton/_C/libtriton_part.so": random.Random(0).randbytes(1_200_000),
    "triton/backends/__init__.py": "backends = {}\n",
    "triton/backends/compiler.py": "class GPUTarget: ...\n",
    "triton/backends/nvidia/bin/ptxas": "#!/bin/sh\necho release 12.8, V12.8.93\n",
}


@pytest.fixture(scope="module")
def quick_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python that copies a virtual environment instead of making one, in no time; its pip is the real one."""
    folder = tmp_path_factory.mktemp("python")
    subprocess.run(["/usr/bin/python3", "-m", "venv", folder / "model"], check=True)
    python = folder / "python3"
    python.write_text(VENV_PYTHON.replace("$MODEL", str(folder / "model")))
    python.chmod(0o700)
    return python


@pytest.fixture
def index() -> Iterator[PackageIndex]:
    """A package index that has Triton 3.6.0 and what is installed with it."""
    served = PackageIndex()
    served.add("triton", "3.6.0", TRITON)
    served.add("setuptools", "75.0.0")
    served.add("filelock", "3.16.0")
    yield served
    served.close()


class Box(CommandLine):
    """The command line on a daemon that has no toolchain and installs from an index."""

    def __init__(self, folder: Path, index: PackageIndex, python: Path | str) -> None:
        self.toolchains = folder / "toolchains"
        flags = ["--python", str(python)]
        self.daemon = Daemon(folder, BUILD, self.toolchains, *flags, environment=index.environment)
        self.daemon.start()
        super().__init__(f"unix:{self.daemon.socket}", folder)

    def listed(self) -> Any:
        return self.json("toolchains", "list")["toolchains"]

    def left(self) -> list[str]:
        return sorted(path.name for path in self.toolchains.iterdir())


@pytest.fixture
def trun(tmp_path: Path, index: PackageIndex, quick_python: Path) -> Iterator[Box]:
    box = Box(tmp_path, index, quick_python)
    yield box
    assert box.daemon.stop() == 0


def test_a_version_that_there_is_not_is_told_those_there_are(trun: Box) -> None:
    error = trun.error("toolchains", "install", "3.6.1", code=3)
    assert error["code"] == "INVALID_ARGUMENT" and error["reason"] == "ARGUMENT"
    assert error["message"].endswith("there is no triton 3.6.1 for this Python and machine; there are: 3.6.0")
    assert trun.listed() == [] and trun.left() == []


def test_a_wheel_that_is_not_what_its_index_says_is_not_installed(trun: Box, index: PackageIndex) -> None:
    index.wrong.update(index.wheels)
    error = trun.error("toolchains", "install", "3.6.0", code=4)
    assert error["code"] == "FAILED_PRECONDITION" and error["reason"] == "TOOLCHAIN_BROKEN"
    assert "Expected sha256" in error["message"] and "0" * 64 in error["message"]
    assert trun.listed() == [] and trun.left() == []


def test_a_triton_that_does_not_start_is_not_kept(trun: Box, index: PackageIndex) -> None:
    index.add("triton", "3.6.0", {**TRITON, "triton/backends/__init__.py": "raise ImportError('no such backend')\n"})
    error = trun.error("toolchains", "install", "3.6.0", code=4)
    assert error["reason"] == "TOOLCHAIN_BROKEN" and "no such backend" in error["message"]
    assert trun.listed() == []
    wait_until(lambda: trun.left() == [], "the end of its folder")


def test_an_index_that_does_not_answer_is_unavailable_and_the_setting_named(trun: Box, index: PackageIndex) -> None:
    index.close()
    error = trun.error("toolchains", "install", "3.6.0", code=6)
    assert (error["code"], error["reason"]) == ("UNAVAILABLE", "UNAVAILABLE")
    assert "PIP_INDEX_URL" in error["message"]
    assert trun.listed() == [] and trun.left() == []


def test_an_install_whose_daemon_is_killed_leaves_nothing_after_the_next_start(trun: Box, index: PackageIndex) -> None:
    index.go_on.clear()
    install = subprocess.Popen(
        [CLIENT, "toolchains", "install", "3.6.0"], env=trun.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )

    def downloading() -> bool:
        parts = trun.toolchains.glob(".installing-*/tmp/*/triton-*.whl")
        return any(part.stat().st_size > 0 for part in parts)

    wait_until(downloading, "the first part of the download", timeout=30)
    family = trun.daemon.children()
    assert any(" pip install " in command for command in family.values()), family
    trun.daemon.kill()
    _, said = install.communicate(timeout=60)
    assert install.returncode == 6, said
    wait_until(lambda: not family.keys() & process_table().keys(), "the end of pip")
    (half_made,) = trun.left()
    assert half_made == f".installing-3.6.0-{trun.daemon.process.pid}"
    trun.daemon.start()
    assert trun.listed() == [] and trun.left() == []
    index.go_on.set()
    assert trun.json("toolchains", "install", "3.6.0")["toolchain"]["usable"]
    assert trun.left() == ["3.6.0"]


def test_an_install_shows_a_bar_on_a_terminal_and_wipes_it_away(tmp_path: Path, index: PackageIndex) -> None:
    index.pause = 0.4
    trun = Box(tmp_path, index, "/usr/bin/python3")
    code, said, shown = trun.on_a_terminal("toolchains", "install", "3.6.0")
    lines = shown.split("\r\x1b[2K")
    assert code == 0, lines
    step = r"downloading triton 3\.6\.0 \(1\.2 MB\)"
    bars = [re.fullmatch(rf"installing 3\.6\.0  \[(#+)\.*\] +(\d+)%  \d+ s  {step}", line) for line in lines]
    fractions = [int(bar[2]) for bar in bars if bar]
    assert max(map(len, lines)) < 100, "longer than a line of the terminal"
    assert len(set(fractions)) > 2 and fractions == sorted(fractions), lines
    assert lines[0] == "" and lines[-1] == "", "the last bar is wiped away, and nothing stands beside it"
    place = trun.toolchains / "3.6.0"
    assert said == f"installed 3.6.0 (Triton 3.6.0) at {place}\n"
    (listed,) = trun.listed()
    assert listed["name"] == "3.6.0" and listed["usable"] and not listed["adopted"]
    probe = [place / "bin/python", "-c", "import triton; print(triton.__version__)"]
    assert subprocess.run(probe, capture_output=True, text=True, check=True).stdout == "3.6.0\n"
    assert trun.left() == ["3.6.0"]
    assert trun.error("toolchains", "install", "3.6.0", code=3)["code"] == "ALREADY_EXISTS"
    trun("toolchains", "remove", "3.6.0")
    assert trun.left() == []
    assert trun.daemon.stop() == 0


def test_install_sh_installs_once_and_leaves_nothing_of_what_failed(
    tmp_path: Path, index: PackageIndex, quick_python: Path
) -> None:
    def install(version: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [ROOT / "deploy/toolchains/install.sh", version, tmp_path / "toolchains"],
            env={"PATH": "/usr/bin:/bin", "PYTHON": str(quick_python), **index.environment},
            capture_output=True,
            text=True,
            timeout=60,
        )

    left_by_the_dead = tmp_path / "toolchains/.installing-3.6.0-999999999"
    left_by_the_dead.mkdir(parents=True)
    done = install("3.6.1")
    assert done.returncode == 1 and "triton 3.6.1 could not be installed" in done.stderr
    assert "from versions: 3.6.0" in done.stderr
    assert list((tmp_path / "toolchains").iterdir()) == []
    done = install("3.6.0")
    place = tmp_path / "toolchains/3.6.0"
    assert done.returncode == 0 and done.stdout.endswith(f"triton 3.6.0 is in {place}\n"), done.stderr
    index.close()
    again = install("3.6.0")
    assert (again.returncode, again.stdout, again.stderr) == (0, "triton 3.6.0 is there\n", "")
    assert list((tmp_path / "toolchains").iterdir()) == [place]


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


def test_an_adopted_environment_is_used_and_removed_and_stays_as_it_was(trun: Box) -> None:
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
