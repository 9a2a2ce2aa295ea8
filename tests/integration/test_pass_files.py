"""Passes as a user gets them: `trun-client compile --passes`, --changed-only and --from-pass, through a daemon."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from daemon import Daemon
from kernels import EXAMPLES
from test_command_line import CommandLine
from test_versions import INSTALLED, instructions

FILE = EXAMPLES / "transpose.ttir"


@pytest.fixture(scope="module")
def cli(daemon: Daemon, tmp_path_factory: pytest.TempPathFactory) -> Iterator[CommandLine]:
    yield CommandLine(f"unix:{daemon.socket}", tmp_path_factory.mktemp("cli"))


def listed(folder: Path) -> list[dict[str, Any]]:
    return list(json.loads((folder / "passes.json").read_text()))


# What is wrong.


def test_an_unknown_pass_lists_the_passes_there_are(cli: CommandLine) -> None:
    error = cli.error("compile", FILE, "--from-pass", "ttgir/nothing", code=3)
    assert error["reason"] == "UNKNOWN_OPTION" and "ttgir/coalesce" in error["message"]


def test_a_file_that_is_damaged_or_of_another_level_is_refused_after_a_pass(cli: CommandLine) -> None:
    damaged = cli.folder / "damaged.ttir"
    damaged.write_text(FILE.read_text().replace("tt.load", "tt.laod", 1))
    error = cli.error("compile", damaged, "--from-pass", "ttir/inliner", "--toolchain", "3.9.0", code=3)
    line = next(i for i, row in enumerate(damaged.read_text().splitlines(), 1) if "tt.laod" in row)
    assert error["reason"] == "INVALID_IR" and error["location"]["line"] == line
    error = cli.error("compile", FILE, "--from-pass", "ttgir/coalesce", "--toolchain", "3.9.0", code=3)
    assert error["reason"] == "INVALID_IR" and "num-warps" in error["message"], error


@pytest.mark.parametrize(
    "words",
    [
        ["--level", "ptx", "--from-pass", "ttgir/coalesce"],
        ["--level", "ptx", "--from-pass", "coalesce"],
        ["--level", "llir", "--from-pass", "ttgir/coalesce"],
        ["--level", "ttgir", "--from-pass", "ttir/inliner"],
        ["--level", "ttir", "--from-pass", "llir/nothing"],
    ],
    ids=" ".join,
)
def test_a_level_at_which_no_pass_could_have_left_the_file_is_refused_and_not_passed_over(
    cli: CommandLine, words: list[str]
) -> None:
    for command in (["compile", FILE], ["run", FILE, "-g", "1"]):
        error = cli.error(*command, *words, code=3)
        assert (error["code"], error["reason"]) == ("INVALID_ARGUMENT", "ARGUMENT"), error
        assert f"a file of level {words[1]} cannot be what the pass {words[3]} left behind" in error["message"]
        assert "correct the level (--level, or the extension of the file's name) or the pass" in error["message"]


@pytest.mark.parametrize(("name", "to"), [("ttir/inliner", "ttir"), ("ttgir/coalesce", "ttir"), ("llir/x", "ttgir")])
def test_a_compile_after_a_pass_to_a_level_that_is_behind_it_is_refused(cli: CommandLine, name: str, to: str) -> None:
    error = cli.error("compile", FILE, "--level", to, "--from-pass", name, "--to", to, code=3)
    assert (error["code"], error["reason"]) == ("INVALID_ARGUMENT", "ARGUMENT"), error
    assert f"and {to} was asked for: ask for a later one (--to)" in error["message"]


# What is right.


@pytest.mark.parametrize("version", INSTALLED[:: max(1, len(INSTALLED) - 1)])
def test_passes_are_numbered_files_with_marks_and_a_compile_goes_on_from_one(cli: CommandLine, version: str) -> None:
    folder = cli.folder / version
    folder.mkdir()
    common = ["--toolchain", version]
    result = cli.json("compile", FILE, *common, "--passes", folder / "all", "-o", folder / "whole.ptx")
    passes = listed(folder / "all")
    assert [(p["pass"], p["changed"]) for p in passes] == [(p["pass"], p["changed"]) for p in result["passes"]]
    assert len(passes) > 30 and any(p["pass"] == "ttgir/coalesce" for p in passes)
    files = sorted(path.name for path in (folder / "all").glob("*.mlir"))
    assert files == [p["file"] for p in passes], "one for each, in order"
    texts = [(folder / "all" / name).read_text() for name in files]
    for i, one in enumerate(passes):
        assert files[i].startswith(f"{i:03}-") and files[i].endswith("-changed.mlir") == one["changed"]
        assert i == 0 or (texts[i] != texts[i - 1]) == one["changed"], files[i]

    cli("compile", FILE, *common, "--passes", folder / "changed", "--changed-only")
    changed = [p["file"] for p in listed(folder / "changed") if p["changed"]]
    assert 0 < len(changed) < len(files)
    assert sorted(path.name for path in (folder / "changed").glob("*.mlir")) == changed
    assert [p.get("file") for p in listed(folder / "changed") if not p["changed"]].count(None) == len(files) - len(
        changed
    )

    whole = (folder / "whole.ptx").read_bytes()
    for name in ("ttir/inliner", "ttgir/coalesce"):
        at = next(i for i, one in enumerate(passes) if one["pass"].startswith(name))
        words = ["--from-pass", passes[at]["pass"]]
        again = cli.json("compile", folder / "all" / files[at], *words, *common, "-o", folder / "again.ptx")
        assert again["kernel"]["cache_key"] != result["kernel"]["cache_key"]
        assert instructions((folder / "again.ptx").read_bytes()) == instructions(whole), name
