"""trun-client with kernels in Python and Gluon files that are wrong, through `run`, `compile` and `matrix`.

Each time: the exit code of its kind, the reason and the place, nothing run, and a session that notices nothing.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from daemon import Daemon
from test_bad_input import untouched
from test_command_line import CommandLine
from test_versions import INSTALLED

HEADS = {
    "python": ("import triton\nimport triton.language as tl", "@triton.jit", "tl"),
    "gluon": (
        "from triton.experimental import gluon\nfrom triton.experimental.gluon import language as gl",
        "@gluon.jit",
        "gl",
    ),
}
RUN = ["-a", "p=i32[4]", "-g", "1"]
SIGNATURE = ["--signature", "*i32"]


DOT = """import triton
import triton.language as tl

@triton.jit
def dot(a, c, n):
    r = tl.arange(0, 32)
    total = tl.zeros((32, 32), dtype=tl.float32)
    for k in range(0, n, 32):
        x = tl.load(a + r[:, None] * n + k + r[None, :])
        total += tl.dot(x, tl.load(a + (k + r[:, None]) * n + r[None, :]))
    tl.store(c + r[:, None] * n + r[None, :], total)
"""


@pytest.fixture(scope="module")
def cli(daemon: Daemon, tmp_path_factory: pytest.TempPathFactory) -> Iterator[CommandLine]:
    yield CommandLine(f"unix:{daemon.socket}", tmp_path_factory.mktemp("cli"))


@pytest.fixture(autouse=True)
def bystander(daemon: Daemon) -> Iterator[None]:
    with untouched(daemon):
        yield


def kernel_file(cli: CommandLine, language: str, statement: str) -> Path:
    """A file whose third line is `statement`, which binds X; the store is line 6."""
    head, decorator, module = HEADS[language]
    path = cli.folder / f"{language}.py"
    path.write_text(f"{head}\n{statement}\n{decorator}\ndef k(p):\n    {module}.store(p, X)\n")
    return path


@pytest.mark.parametrize("language", list(HEADS))
@pytest.mark.parametrize(
    ("statement", "reason", "code"),
    [
        ("X = = 1", "INVALID_IR", 3),
        ("import torch; X = torch.pi", "INVALID_IR", 3),
        ("X = open('/etc/passwd').read()", "NOT_PERMITTED", 3),
        ("import socket; X = socket.create_connection(('127.0.0.1', 1))", "NOT_PERMITTED", 3),
        ("import os; X = os.fork()", "NOT_PERMITTED", 3),
    ],
    ids=["syntax", "import", "file", "socket", "fork"],
)
def test_a_file_that_is_wrong_or_wants_more_than_lowering_is_refused_at_its_line(
    cli: CommandLine, language: str, statement: str, reason: str, code: int
) -> None:
    path = kernel_file(cli, language, statement)
    for words in (["run", f"{path}:k", *RUN], ["compile", f"{path}:k", *SIGNATURE]):
        error = cli.error(*words, code=code)
        assert error["reason"] == reason and error["location"]["file"] == str(path), error
        assert error["location"]["line"] == 3
    said = cli("run", f"{path}:k", *RUN, code=code).stderr
    assert said.startswith(f"{path}:3:") and f"    3 | {statement}\n" in said
    cells = cli.json("matrix", f"{path}:k", *SIGNATURE, "--versions", "3.9.0,3.4.0", "--arch", "sm_80", code=4)["cells"]
    assert [(cell["compiles"], cell["reason"]) for cell in cells] == [(False, reason)] * 2
    right = kernel_file(cli, language, f"X = {HEADS[language][2]}.constexpr(1)")
    assert cli.json("run", f"{right}:k", *RUN)["ok"]


@pytest.mark.parametrize("language", list(HEADS))
def test_a_row_of_any_alphabet_is_shown_as_it_is_with_the_caret_under_its_place(
    cli: CommandLine, language: str
) -> None:
    statement = "X = 'größer 行列'; Y = = 1"
    path = kernel_file(cli, language, statement)
    said = cli("run", f"{path}:k", *RUN, code=3).stderr
    assert f"    3 | {statement}\n      | {' ' * statement.rindex('=')}^\n" in said, said
    lowered = kernel_file(cli, language, "X = 1")
    row = "größe行 = 2; fehlt(größe行)  # größer \u2265 0"
    lowered.write_text(lowered.read_text().replace(f"{HEADS[language][2]}.store(p, X)", row))
    said = cli("run", f"{lowered}:k", *RUN, code=3).stderr
    assert f"    6 |     {row}\n      | {' ' * (4 + row.index('fehlt'))}^\n" in said, said
    message = cli.error("run", f"{lowered}:k", *RUN, code=3)["message"]
    assert row in message, message


@pytest.mark.parametrize("language", list(HEADS))
def test_a_file_that_loops_for_ever_is_cut_at_the_deadline(cli: CommandLine, language: str) -> None:
    path = kernel_file(cli, language, "for X in iter(int, 1): pass")
    limit = ["--compile-deadline", "1s"]
    for words in (["run", f"{path}:k", *RUN], ["compile", f"{path}:k", *SIGNATURE]):
        assert cli.error(*words, *limit, code=4)["reason"] == "COMPILE_TIMEOUT"
    (cell,) = cli.json("matrix", f"{path}:k", *SIGNATURE, *limit, "--versions", "3.9.0", "--arch", "sm_80", code=4)[
        "cells"
    ]
    assert cell["reason"] == "COMPILE_TIMEOUT"


def test_a_version_whose_llvm_aborts_is_a_cell_of_the_matrix(cli: CommandLine) -> None:
    path = cli.folder / "broken.llir"
    path.write_text('target triple = "nvptx64-nvidia-cuda"\ndefine void @f( {\n')
    (cli.folder / "broken.json").write_text('{"name": "f", "num_warps": 1, "shared": 0, "num_ctas": 1}')
    cells: list[Any] = cli.json("matrix", path, "--versions", "3.4.0,3.9.0", "--arch", "sm_80", code=4)["cells"]
    assert [(cell["version"], cell["reason"]) for cell in cells] == [
        ("3.4.0", "COMPILE_FAILED"),
        ("3.9.0", "COMPILE_FAILED"),
    ]
    assert all("LLVM ERROR: failed to parse IR" in cell["message"] for cell in cells)
    table = cli("matrix", path, "--versions", "3.9.0", "--arch", "sm_80", code=4).stdout
    assert "COMPILE_FAILED: " in table


def test_a_version_that_aborts_costs_its_own_cells_alone(cli: CommandLine) -> None:
    """Triton 3.2 aborts on a matmul over two CTAs; the others compile it."""
    if "3.2.0" not in INSTALLED:
        pytest.skip("Triton 3.2.0 is not installed")
    path = cli.folder / "dot.py"
    path.write_text(DOT)
    words = ["matrix", f"{path}:dot", "--signature", "*f16:16, *f32:16, i32:16"]
    words += ["-O", "num_ctas=2", "--arch", "sm_90"]
    cells = {c["version"]: c for c in cli.json(*words, "--versions", "3.2.0,3.9.0")["cells"]}
    assert cells["3.9.0"]["compiles"] and cells["3.9.0"]["registers"] > 0
    assert cells["3.2.0"]["reason"] == "COMPILE_FAILED" and "Aborted" in cells["3.2.0"]["message"]


def test_random_bytes_and_100_mb_as_a_python_file_are_refused(cli: CommandLine) -> None:
    generator = random.Random(1)
    path = cli.folder / "random.py"
    for content in (b"", generator.randbytes(5000), b"def k(p):\n    " + generator.randbytes(500)):
        path.write_bytes(content)
        assert cli.error("run", f"{path}:k", *RUN, code=3)["reason"] == "INVALID_IR"
    with open(path, "wb") as file:
        file.truncate(100_000_000)
    for words in (
        ["run", f"{path}:k", *RUN],
        ["compile", f"{path}:k", *SIGNATURE],
        ["matrix", f"{path}:k", *SIGNATURE],
    ):
        error = cli.error(*words, code=7)
        assert error["reason"] == "TOO_LARGE" and str(64 << 20) in error["message"], error


@pytest.mark.parametrize("language", list(HEADS))
def test_what_is_wrong_with_a_launch_is_told_as_for_any_kernel(cli: CommandLine, language: str) -> None:
    path = kernel_file(cli, language, f"X = {HEADS[language][2]}.constexpr(7)")
    run = ["run", f"{path}:k"]
    assert cli.error(*run, "-g", "1", code=3)["reason"] == "ARGUMENT"
    assert cli.error(*run, *RUN, "-a", "q=1", code=3)["reason"] == "ARGUMENT"
    assert cli.error(*run, *RUN, "-O", "num_wraps=8", code=3)["reason"] == "UNKNOWN_OPTION"
    for grid in ("0", "1,70000", "2147483648"):
        assert cli.error(*run, "-a", "p=i32[4]", "-g", grid, code=3)["reason"] == "LAUNCH_SHAPE"


def test_a_number_that_was_compiled_in_as_1_and_comes_as_2_is_named(cli: CommandLine) -> None:
    path = cli.folder / "strided.py"
    path.write_text(
        "import triton\nimport triton.language as tl\n@triton.jit\ndef strided(out, stride, n):\n"
        "    tl.store(out + 3 * stride, n)\n"
    )
    cli("compile", f"{path}:strided", "--signature", "*i32, 1, i32", "-o", cli.folder / "made")
    given = ["-o", "out=i32[8]", "-a", "n=9", "-g", "1", "--save", "out=out.npy"]
    for level in ("ttir", "ttgir"):
        file = cli.folder / "made" / f"strided.{level}"
        error = cli.error("run", file, *given, "-a", "stride=2", code=3)
        assert error["reason"] == "ARGUMENT" and "stride" in error["message"], error
        assert cli.json("run", file, *given)["ok"]
        assert np.load(cli.folder / "out.npy").tolist() == [0, 0, 0, 9, 0, 0, 0, 0]
