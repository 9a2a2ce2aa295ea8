"""Every example in Python prints that it is right, and ends with an error when what it runs is not."""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
import sys
from collections.abc import Iterator

import pytest
import trun
from conftest import ROOT, started_daemon

SHARED = {"matmul.py", "older_kernel.py"}  # imported by the others
EXAMPLES = sorted(
    str(file.relative_to(ROOT / "examples"))
    for folder in ("python", "levels", "issues")
    for file in (ROOT / "examples" / folder).glob("*.py")
    if file.name not in SHARED
)
TARGETS = ("sm_80", "sm_90", "sm_75", "sm_86", "sm_89", "sm_120")
# What is written into a copy of the examples, and the examples that must see it.
DOUBLED = ("levels/matmul.py", "total += tl.dot(a, b)", "total += 2 * tl.dot(a, b)")
# The files that an example saves, other than the source: a sum that begins at 1.
SPOILT_FILES = {
    "ttir": ("dense<0.000000e+00> : tensor<32x32xf32>", "dense<1.000000e+00> : tensor<32x32xf32>"),
    "ttgir": ("dense<0.000000e+00> : tensor<32x32xf32", "dense<1.000000e+00> : tensor<32x32xf32"),
    "llir": ("[ 0.000000e+00,", "[ 1.000000e+00,"),
    "ptx": ("0f00000000", "0f3F800000"),
    "cubin": ("0f00000000", "0f3F800000"),  # an emulator runs the PTX beside it
}


@pytest.fixture(scope="module")
def daemon() -> Iterator[str]:
    with started_daemon(*(word for target in TARGETS for word in ("--emulator", target))) as address:
        yield address


def run(daemon: str, script: pathlib.Path, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"TRUN_ADDRESS": daemon, "PYTHONPATH": str(pathlib.Path(trun.__file__).parents[1])}
    environment |= variables
    return subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True, timeout=300)


@pytest.fixture
def copy(tmp_path: pathlib.Path) -> pathlib.Path:
    for folder in ("examples", "docs/case_studies"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def spoil(file: pathlib.Path, right: str, wrong: str) -> None:
    text = file.read_text()
    assert right in text, f"{file.name} has no {right!r}"
    file.write_text(text.replace(right, wrong))


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_prints_that_it_is_right(daemon: str, example: str) -> None:
    ended = run(daemon, ROOT / "examples" / example)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.endswith("right\n")


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_is_clean_under_every_check(daemon: str, example: str) -> None:
    ended = run(daemon, ROOT / "examples" / example, TRUN_CHECK="uninit,race,async")
    assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize("level", SPOILT_FILES)
def test_an_example_of_a_level_sees_that_the_file_is_wrong(daemon: str, copy: pathlib.Path, level: str) -> None:
    right, wrong = SPOILT_FILES[level]
    saved = "ptx" if level == "cubin" else level
    line = "        for level, content in files.items():\n"
    spoilt = f"            if level == {saved!r}:\n                assert {right!r} in content\n"
    spoilt += f"                content = content.replace({right!r}, {wrong!r})\n"
    spoil(copy / "examples/levels/matmul.py", line, line + spoilt)
    ended = run(daemon, copy / f"examples/levels/{level}.py")
    assert ended.returncode != 0 and "Mismatched elements" in ended.stderr, ended.stdout + ended.stderr


@pytest.mark.parametrize(
    ("example", "file", "right", "wrong"),
    [
        ("levels/python_source.py", *DOUBLED),
        ("levels/architectures.py", *DOUBLED),
        ("levels/versions.py", *DOUBLED),
        ("levels/hopper.py", "levels/hopper.py", "total += tl.dot(", "total += 2 * tl.dot("),
        ("levels/gluon_intro.py", "levels/gluon_intro.py", "* factor", "+ factor"),
        ("levels/gluon_layouts.py", "levels/gluon_layouts.py", "convert_layout(tile,", "convert_layout(tile * 2,"),
        ("issues/small_gemm.py", "../docs/case_studies/small_gemm.py", "tl.dot(x, y)", "2 * tl.dot(x, y)"),
        ("issues/attention_backward.py", "../docs/case_studies/attention_backward.py", "dp - delta", "dp + delta"),
        ("python/autotuned_matmul.py", "python/autotuned_matmul.py", "tl.dot(", "2 * tl.dot("),
    ],
)
def test_an_example_whose_kernel_is_wrong_fails(
    daemon: str, copy: pathlib.Path, example: str, file: str, right: str, wrong: str
) -> None:
    spoil(copy / "examples" / file, right, wrong)
    ended = run(daemon, copy / "examples" / example)
    assert ended.returncode != 0 and "AssertionError" in ended.stderr, ended.stdout + ended.stderr
