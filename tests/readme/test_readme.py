"""Every snippet of README.md runs, as it stands there, or is part of a file that a test builds and runs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("TRUN_BUILD_DIR", ROOT / "build/dev"))
TOOLCHAINS = Path(os.environ.get("TRUN_TOOLCHAINS_DIR", ROOT / "build/toolchains"))
FENCE = re.compile(r"(?:<!-- (?P<note>[^>]*) -->\n)?```(?P<language>\w+)\n(?P<text>.*?)```", re.DOTALL)


def snippets(language: str) -> list[tuple[str, str]]:
    text = (ROOT / "README.md").read_text()
    return [(m["note"] or "", m["text"]) for m in FENCE.finditer(text) if m["language"] == language]


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A user's shell in a folder of its own: the binaries and a Python with the client on the PATH, no daemon yet."""
    folder = tmp_path_factory.mktemp("readme")
    for name in ("run", "home", "work"):
        (folder / name).mkdir(mode=0o700)
    (folder / "work/examples").symlink_to(ROOT / "examples")
    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
    install = [folder / "venv/bin/pip", "install", "-q", "--disable-pip-version-check", ROOT / "client/python"]
    subprocess.run(install, check=True)
    variables = {
        "PATH": f"{BUILD / 'bin'}:{folder / 'venv/bin'}:/usr/bin:/bin",
        "HOME": str(folder / "home"),
        "XDG_RUNTIME_DIR": str(folder / "run"),
        "TRUN_TOOLCHAINS_DIR": str(TOOLCHAINS),
        "FOLDER": str(folder / "work"),
    }
    yield variables
    subprocess.run([BUILD / "bin/trun-client", "daemon", "stop"], env=variables, check=False)


def test_there_are_snippets() -> None:
    assert len(snippets("sh")) >= 3 and snippets("python") and snippets("cpp")


def test_the_two_commands_are_what_ci_runs() -> None:
    noted = {note: text.split()[0] for note, text in snippets("sh") if note}
    assert noted == {"run by: tests/run.sh quickstart": "examples/quickstart.sh", "run by: CI": "tests/run.sh"}
    assert "tests/run.sh" in (ROOT / ".ci/run").read_text()
    assert "examples/quickstart.sh" in (ROOT / "tests/run.sh").read_text()


@pytest.mark.parametrize("text", [text for note, text in snippets("sh") if not note])
def test_a_shell_snippet_runs(environment: dict[str, str], text: str) -> None:
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", text],
        env=environment,
        cwd=environment["FOLDER"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("text", [text for _, text in snippets("python")])
def test_a_python_snippet_runs(environment: dict[str, str], text: str) -> None:
    (Path(environment["FOLDER"]) / "snippet.py").write_text(text)
    command = ["python", "snippet.py"]
    done = subprocess.run(
        command, env=environment, cwd=environment["FOLDER"], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(("note", "text"), snippets("cpp"))
def test_a_cpp_snippet_is_part_of_an_example_that_a_test_builds_and_runs(note: str, text: str) -> None:
    file = ROOT / note.removeprefix("from: ")
    assert text.strip(), "the snippet is empty"
    assert text.strip() in file.read_text(), f"the snippet is not in {note}"
    assert "examples/cpp" in (ROOT / "tests/integration/test_command_line.py").read_text()
