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
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What examples/quickstart.sh leaves behind, in a folder of its own."""
    folder = tmp_path_factory.mktemp("readme") / "trun"
    (folder / "build").mkdir(parents=True)
    for name in ("examples", "client"):
        (folder / name).symlink_to(ROOT / name)
    (folder / "build/release").symlink_to(BUILD)
    (folder / "build/toolchains").symlink_to(TOOLCHAINS)
    return folder


@pytest.fixture(scope="module")
def environment(checkout: Path) -> Iterator[dict[str, str]]:
    """A new user's shell after the README's own block of settings: that block is all that tells it of trun."""
    home = checkout.parent
    (home / "run").mkdir(mode=0o700)
    newcomer = {"PATH": "/usr/bin:/bin", "HOME": str(home), "XDG_RUNTIME_DIR": str(home / "run")}
    settings = next(text for note, text in snippets("sh") if "export" in text)
    script = settings + "env -0 >&3\n"
    with (home / "environment").open("w+b") as variables:
        shell = ["bash", "-euo", "pipefail", "-c", f"exec 3>&{variables.fileno()}; {script}"]
        subprocess.run(shell, env=newcomer, cwd=checkout, pass_fds=[variables.fileno()], check=True, timeout=300)
        variables.seek(0)
        after = dict(line.split("=", 1) for line in variables.read().decode().split("\0") if line)
    yield after
    subprocess.run([BUILD / "bin/trun-client", "daemon", "stop"], env=after, check=False)


def run_shell(text: str, environment: dict[str, str], folder: Path) -> None:
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", text],
        env={**environment, "CMAKE_CXX_COMPILER_LAUNCHER": "ccache"},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_there_are_snippets() -> None:
    assert len(snippets("sh")) >= 5 and snippets("python") and snippets("cpp")


def test_the_two_commands_are_what_ci_runs() -> None:
    noted = {note: text.split()[0] for note, text in snippets("sh") if note}
    assert noted == {"run by: tests/run.sh quickstart": "examples/quickstart.sh", "run by: CI": "tests/run.sh"}
    assert "tests/run.sh" in (ROOT / ".ci/run").read_text()
    assert "examples/quickstart.sh" in (ROOT / "tests/run.sh").read_text()


def test_the_examples_readme_names_every_example_once() -> None:
    rows = re.findall(r"^\| `([^`]+)` \|", (ROOT / "examples/README.md").read_text(), re.MULTILINE)
    assert rows and len(rows) == len(set(rows)), rows
    assert all((ROOT / "examples" / row).exists() for row in rows)
    files = (f for f in (ROOT / "examples").rglob("*.py") if not f.is_relative_to(ROOT / "examples/kernels"))
    programs = {str(f.relative_to(ROOT / "examples")) for f in files if "__main__" in f.read_text()}
    assert programs <= {*rows, "reference.py"}, programs - {*rows}


def test_every_decision_has_its_own_number_and_its_line_in_the_index() -> None:
    folder = ROOT / "docs/adr"
    lines = []
    for file in sorted(folder.glob("0*.md")):
        heading = re.match(r"# (\d+)\. (.+)", file.read_text())
        assert heading and int(heading[1]) == int(file.name[:4]), f"{file.name} begins with '# NUMBER. Title'"
        lines.append(f"| {heading[1]} | [{heading[2]}]({file.name}) |")
    numbers = [line.split()[1] for line in lines]
    assert len(set(numbers)) == len(numbers), "two decisions have one number"
    rows = [line for line in (folder / "README.md").read_text().splitlines() if line.startswith("| ")]
    assert [row for row in rows if row[2].isdigit()] == lines


@pytest.mark.parametrize("text", [text for note, text in snippets("sh") if not note and "export" not in text])
def test_a_shell_snippet_runs(environment: dict[str, str], checkout: Path, text: str) -> None:
    run_shell(text, environment, checkout)


@pytest.mark.parametrize("text", [text for _, text in snippets("python")])
def test_a_python_snippet_runs(environment: dict[str, str], checkout: Path, text: str) -> None:
    (checkout / "snippet.py").write_text(text)
    run_shell("python snippet.py", environment, checkout)


def test_a_type_checker_takes_the_installed_client_as_typed(environment: dict[str, str], checkout: Path) -> None:
    program = "import trun\nwith trun.connect() as session:\n    kernel: int = session.load('k.ttir')\n"
    (checkout / "typed.py").write_text(program)
    mypy = [sys.executable, "-m", "mypy", "--python-executable", "build/client/bin/python", "typed.py"]
    done = subprocess.run(mypy, env=environment, cwd=checkout, capture_output=True, text=True, timeout=120)
    assert 'typed.py:3: error: Incompatible types in assignment (expression has type "Kernel"' in done.stdout
    assert "Found 1 error" in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize(("note", "text"), snippets("cpp"))
def test_a_cpp_snippet_is_part_of_the_example_that_a_shell_snippet_builds_and_runs(note: str, text: str) -> None:
    file = ROOT / note.removeprefix("from: ")
    assert text.strip(), "the snippet is empty"
    assert text.strip() in file.read_text(), f"the snippet is not in {note}"
    assert any("-S examples/cpp" in shell for _, shell in snippets("sh"))
