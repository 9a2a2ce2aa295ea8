"""What deploy/setup.sh says when it cannot install something: one line, with the cause and the log's place."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


class Machine:
    """A checkout and a machine on which everything is installed, but for what a test breaks."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.programs = folder / "programs"
        (folder / "deploy").mkdir()
        for name in ("setup.sh", "packages.txt"):
            shutil.copy(ROOT / "deploy" / name, folder / "deploy" / name)
        self.program("programs/dpkg-query", "printf installed")
        self.program("programs/id", "echo 0")
        self.program("programs/apt-get", "true")
        self.program("build/tools/venv/bin/pip", "true")
        self.program("deploy/toolchains/install.sh", "true")
        self.program("programs/cmake", "true")
        self.program("programs/ninja", "true")

    def program(self, path: str, script: str) -> None:
        (self.folder / path).parent.mkdir(parents=True, exist_ok=True)
        (self.folder / path).write_text(f"#!/bin/sh\n{script}\n")
        (self.folder / path).chmod(0o755)

    def set_up(self, *flags: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.folder / "deploy/setup.sh", *flags],
            env={"PATH": f"{self.programs}:/usr/bin:/bin"},
            capture_output=True,
            text=True,
            timeout=60,
        )


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


# Who fails, how, and the words and the log that the line names.
FAILURES = [
    ("programs/apt-get", "echo Reading; echo 'E: no package x'; exit 100", "E: no package x", "apt-update"),
    ("programs/apt-get", "[ $1 = update ] || { echo 'E: no archive'; exit 100; }", "E: no archive", "apt-install"),
    ("build/tools/venv/bin/pip", "echo Collecting; echo 'ERROR: no numpy'; exit 1", "ERROR: no numpy", "pip"),
    ("programs/cmake", "echo 'CMake Error at x:9'; echo; echo incomplete; exit 1", "CMake Error at x:9", "configure"),
    ("programs/ninja", "echo '[1/9] x'; echo 'a.cc:3:1: error: no y'; echo stopped; exit 1", "error: no y", "build"),
    ("deploy/toolchains/install.sh", "echo making; echo 'no network'; echo; exit 1", "no network", "toolchains"),
]


@pytest.mark.parametrize(("program", "script", "cause", "log"), FAILURES)
def test_a_step_that_fails_says_so_in_one_line(
    machine: Machine, program: str, script: str, cause: str, log: str
) -> None:
    machine.program(program, script)
    if log.startswith("apt"):
        machine.program("programs/dpkg-query", "exit 1")
    done = machine.set_up()
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1 and done.stderr.startswith("setup: "), done.stderr
    assert cause in done.stderr and f"build/logs/{log}.log)" in done.stderr
    assert (machine.folder / f"build/logs/{log}.log").read_text()
    assert "ready" not in done.stdout


def test_packages_that_only_root_can_install_are_named(machine: Machine) -> None:
    machine.program("programs/id", "echo 1000")
    machine.program("programs/sudo", "exit 1")
    machine.program("programs/dpkg-query", 'case "$*" in *libgrpc++-dev*) exit 1 ;; *) printf installed ;; esac')
    done = machine.set_up()
    only = "setup: these Debian packages are missing and only root can install them: libgrpc++-dev\n"
    assert (done.returncode, done.stderr) == (1, only)


def test_where_everything_is_there_nothing_is_said_on_stderr(machine: Machine) -> None:
    done = machine.set_up()
    assert (done.returncode, done.stderr) == (0, "") and done.stdout.endswith("ready\n")
    assert "Python parts" not in machine.set_up().stdout  # what is there is left alone


def test_the_quickstart_builds_no_tests_and_installs_one_triton_and_every_step_is_shown(machine: Machine) -> None:
    presets = {p["name"]: p for p in json.loads((ROOT / "CMakePresets.json").read_text())["configurePresets"]}
    for name in ("release", presets["release"]["inherits"]):
        assert "TRUN_BUILD_TESTS" not in presets[name].get("cacheVariables", {})
    assert re.search(r"^option\(TRUN_BUILD_TESTS .* OFF\)$", (ROOT / "CMakeLists.txt").read_text(), re.MULTILINE)
    for program in ("deploy/toolchains/install.sh", "programs/cmake", "programs/ninja"):
        machine.program(program, f'echo "$@" >>"{machine.folder}/$(basename "$0").calls"')

    def calls(program: str) -> list[str]:
        file = machine.folder / f"{program}.calls"
        found = file.read_text().splitlines() if file.exists() else []
        file.unlink(missing_ok=True)
        return found

    done = machine.set_up("--for", "quickstart")
    assert done.returncode == 0, done.stderr
    assert calls("install.sh") == ["3.9.0 build/toolchains"]
    assert calls("cmake") == ["--preset release"] and calls("ninja") == ["-C build/release"]
    steps = [line.split("] ")[1].split()[0] for line in done.stdout.splitlines()]
    assert steps == ["installing", "installing", "configuring", "building", "ready"], done.stdout
    assert machine.set_up("--for", "tests").returncode == 0
    assert [call.split()[0] for call in calls("install.sh")][:2] == ["3.9.0", "3.4.0"]
    assert calls("cmake") == calls("ninja") == []


def test_nothing_asks_which_distribution_or_which_python_it_is_on() -> None:
    """Debian 12 is what is tested; nothing may keep Ubuntu 24.04, with its Python 3.12, out."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    kinds = (".sh", ".cmake", ".txt", ".json", ".py", ".cc", ".h", "/run", "pyproject.toml")
    tests = re.compile(r"(^|/)tests?/|_test\.|testdata|^(bench/baselines|docs)/")
    asks = re.compile(r"VERSION_ID|VERSION_CODENAME|lsb_release|os-release|debian_version|bookworm|python3\.[0-9]+")
    looked_at, found = 0, []
    for name in listed.splitlines():
        if name.endswith(kinds) and (name == "tests/run.sh" or not tests.search(name)):
            looked_at += 1
            text = (ROOT / name).read_text(errors="replace")
            found += [f"{name}:{number}" for number, line in enumerate(text.splitlines(), 1) if asks.search(line)]
    assert looked_at > 400 and found == []
