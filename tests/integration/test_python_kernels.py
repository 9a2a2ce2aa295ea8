"""trun-client with kernels in Python files: no Python but the daemon's front end runs them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from daemon import Daemon
from test_command_line import CommandLine

KERNELS = ROOT / "examples/kernels/kernels.py"
ADD = ["-a", "x_ptr=f32[n_elements]:randn(seed=1)", "-a", "y_ptr=f32[n_elements]:ones", "-o"]
ADD += ["out_ptr=f32[n_elements]", "-a", "BLOCK=1024", "-g", "cdiv(n_elements,BLOCK)"]
WRONG = """import triton
import triton.language as tl
X = open("/etc/passwd")
@triton.jit
def wrong(x_ptr, BLOCK: tl.constexpr):
    x = tl.load(x_ptr + tl.arange(0, BLOCK))
    tl.store(x_ptr, x.foo)
@triton.jit
def reads(x_ptr):
    tl.store(x_ptr, X)
"""


@pytest.fixture(scope="module")
def cli(daemon: Daemon, tmp_path_factory: pytest.TempPathFactory) -> Iterator[CommandLine]:
    yield CommandLine(f"unix:{daemon.socket}", tmp_path_factory.mktemp("cli"))


@pytest.fixture
def wrong(cli: CommandLine) -> Path:
    path = cli.folder / "wrong.py"
    path.write_text(WRONG)
    return path


def test_an_error_points_at_the_line_as_a_compiler_does(cli: CommandLine, wrong: Path) -> None:
    done = cli("run", f"{wrong}:wrong", "-a", "x_ptr=f32[4]", "-a", "BLOCK=4", code=3)
    assert done.stderr.startswith(f"{wrong}:7:21: error: AttributeError")
    assert "    7 |     tl.store(x_ptr, x.foo)\n      |                     ^\n" in done.stderr
    error = cli.error("run", f"{wrong}:wrong", "-a", "x_ptr=f32[4]", "-a", "BLOCK=4", code=3)
    assert error["location"] == {"file": str(wrong), "line": 7, "column": 21}


def test_a_file_that_the_source_opens_is_refused(cli: CommandLine, wrong: Path) -> None:
    error = cli.error("run", f"{wrong}:reads", "-a", "x_ptr=f32[4]", code=3)
    assert error["reason"] == "NOT_PERMITTED" and error["details"]["line"] == "3"


def test_a_file_without_a_function_or_with_a_wrong_one_is_refused(cli: CommandLine, wrong: Path) -> None:
    assert "name one" in cli.error("run", wrong, code=3)["message"]
    assert "no function 'other'" in cli.error("run", f"{wrong}:other", code=3)["message"]
    assert "lacks --arg for x_ptr" in cli.error("run", f"{wrong}:reads", code=3)["message"]


@pytest.mark.parametrize("toolchain", ["3.9.0", "3.4.0"])
@pytest.mark.parametrize("n", [1, 5000])
def test_a_kernel_in_a_python_file_runs_on_arguments(cli: CommandLine, toolchain: str, n: int) -> None:
    words = [*ADD, "-a", f"n_elements={n}", "--toolchain", toolchain, "-O", "num_warps=8"]
    words += ["--save", "out_ptr=sum.npy", "--save", "x_ptr=x.npy"]
    result = cli.json("run", f"{KERNELS}:vector_add", *words)
    assert result["kernel"]["num_warps"] == 8 and result["kernel"]["toolchain"] == toolchain
    assert [a["name"] for a in result["kernel"]["arguments"]][:3] == ["x_ptr", "y_ptr", "out_ptr"]
    np.testing.assert_array_equal(np.load(cli.folder / "sum.npy"), np.load(cli.folder / "x.npy") + 1)


def test_a_signature_compiles_to_every_level(cli: CommandLine) -> None:
    cli("compile", f"{KERNELS}:softmax", "--signature", "*f32:16, *f32:16, i32, i32, i32, 1024", "-o", "out")
    levels = {path.suffix for path in (cli.folder / "out").iterdir()}
    assert levels == {".python", ".ttir", ".ttgir", ".llir", ".ptx", ".json"}
    assert "--signature has 1" in cli.error("compile", f"{KERNELS}:softmax", "--signature", "i32", code=3)["message"]
