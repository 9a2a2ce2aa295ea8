"""No installed Triton emits a form that the emulator lacks: the table of all forms loads, and so does a fresh sample.

A sample of tests/ptx_vocabulary.py besides, run against NumPy; by hand it runs whole.
"""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import cells
import emulate
import ptx_forms
import pytest
from cells import ARCHS

ROOT = Path(__file__).resolve().parents[2]
TOOLCHAINS = Path(os.environ.get("TRUN_TOOLCHAINS_DIR", ROOT / "build/toolchains"))
BUILD = Path(os.environ.get("TRUN_BUILD_DIR", ROOT / "build/dev"))
INSTALLED = sorted(path.name for path in TOOLCHAINS.iterdir() if (path / "bin/python").exists())


@pytest.fixture(scope="module")
def runner() -> Iterator[emulate.Runner]:
    process = emulate.Runner(BUILD / "tests/ptx_runner")
    yield process
    process.close()


def shapes(text: str) -> set[str]:
    return {shape for shape, _ in ptx_forms.instances(text)}


@functools.cache
def shapes_of_the_table() -> set[str]:
    return shapes(ptx_forms.module([example for example, _ in ptx_forms.read()], 90)[0])


def refused(runner: emulate.Runner, folder: Path, examples: list[str], arch: int) -> list[str]:
    """Those of the examples that the emulator does not load."""
    text, where = ptx_forms.module(examples, arch)
    path = folder / f"forms.sm{arch}.ptx"
    path.write_text(text)
    answer = runner.ask({"op": "load", "arch": arch, "ptx": str(path)})
    return [where[u["line"]] for u in answer.get("unsupported", [])] + ([answer["error"]] if "error" in answer else [])


@pytest.mark.parametrize("arch", ARCHS)
def test_every_form_in_the_table_loads(runner: emulate.Runner, tmp_path: Path, arch: int) -> None:
    examples = [example for example, cells in ptx_forms.read() if arch in cells]
    assert len(examples) > 600
    assert refused(runner, tmp_path, examples, arch) == []


def test_a_form_that_does_not_exist_is_reported_by_name(runner: emulate.Runner, tmp_path: Path) -> None:
    examples = [example for example, cells in ptx_forms.read() if 90 in cells]
    made_up = ["frobnicate.b32 %r1, %r2", "add.sideways.s32 %r1, %r2, %r3"]
    assert refused(runner, tmp_path, [made_up[0], *examples, made_up[1]], 90) == made_up


def test_the_table_has_every_version_and_architecture() -> None:
    found = {(minor, arch) for _, at in ptx_forms.read() for arch, minors in at.items() for minor in minors}
    there = {(minor, arch) for minor in range(10) for arch in ARCHS}
    assert found == {(minor, arch) for minor, arch in there if not cells.impossible(f"3.{minor}.0", arch)}


def test_every_cell_is_whole_and_what_does_not_compile_has_its_reason() -> None:
    table = cells.read()
    assert {(cells.minor(version)[1], arch) for version, arch in table} == {
        (minor, arch) for minor in range(10) for arch in ARCHS if not cells.impossible(f"3.{minor}.0", arch)
    }
    again = "the corpus has changed: run tests/ptx_vocabulary.py whole, then --forms"
    for (version, arch), cell in table.items():
        assert cells.unknown(cell) == set(), f"{version} sm_{arch}: {again}"
        assert cell.compiled == cells.expected(cell), f"{version} sm_{arch}: {again}"
        assert all(cell.refused.values()), f"{version} sm_{arch}: a refusal without a reason"
        assert len(cell.refused) < cell.compiled / 3, f"{version} sm_{arch}: that is no small part"


def test_a_cell_that_lacks_a_case_is_noticed() -> None:
    cell = cells.read()["3.9.0", 90]
    cell.compiled -= 1
    assert cell.compiled != cells.expected(cell)
    cell.refused["no_such_case"] = "why"
    assert cells.unknown(cell) == {"no_such_case"}


def lower(version: str, folder: Path, archs: set[int], names: list[str]) -> subprocess.CompletedProcess[str]:
    command = [str(TOOLCHAINS / version / "bin/python"), str(ROOT / "tests/ptx/lower.py"), str(folder)]
    command += [",".join(map(str, sorted(archs))), *names]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


@pytest.mark.parametrize("version", INSTALLED)
def test_what_a_version_refuses_it_still_refuses_for_the_reason_in_the_table(tmp_path: Path, version: str) -> None:
    known = {
        (arch, name): why
        for (v, arch), cell in cells.read().items()
        if v == version
        for name, why in cell.refused.items()
    }
    # One of each reason, spread over the architectures; what ends the process costs one for each.
    reasons = sorted({why for why in known.values() if not why.startswith("it ends")})[:4]
    chosen = [min(key for key in known if known[key] == why) for why in reasons]
    done = lower(version, tmp_path, {arch for arch, _ in chosen}, [f"{arch}/{name}" for arch, name in chosen])
    assert done.returncode == 0, done.stdout + done.stderr
    for arch, name in chosen:
        refused = json.loads((tmp_path / f"sm{arch}/refused.json").read_text())["refused"]
        assert cells.plain(refused.get(name, "it compiles")) == known[arch, name], f"{version} sm_{arch} {name}"


@pytest.mark.parametrize("version", INSTALLED)
def test_an_architecture_that_is_impossible_for_a_version_still_is(tmp_path: Path, version: str) -> None:
    for arch in ARCHS:
        if cells.impossible(version, arch):
            done = lower(version, tmp_path, {arch}, ["reduce_sum_i32_1_4x64"])
            refused = json.loads((tmp_path / f"sm{arch}/refused.json").read_text())
            assert done.returncode < 0 or refused["refused"], f"{version} compiles for sm_{arch} now"


@pytest.mark.parametrize("version", INSTALLED)
def test_what_an_installed_version_emits_today_loads_and_stands_in_the_table(
    runner: emulate.Runner, tmp_path: Path, version: str
) -> None:
    sample = ptx_forms.read_sample()
    assert version in sample, f"nothing is known of Triton {version}: tests/ptx_vocabulary.py, then --forms"
    kernels = sample[version]
    done = lower(version, tmp_path, {int(kernel.split("/")[0]) for kernel in kernels}, kernels)
    assert done.returncode == 0, done.stdout + done.stderr
    problems = []
    for kernel in kernels:
        arch, case = kernel.split("/")
        path = tmp_path / f"sm{arch}" / f"{case}.ptx"
        assert path.exists(), f"Triton {version} does not compile {kernel} any more"
        problems += [f"{kernel}: {problem}" for problem in runner.load(path, int(arch))]
        unknown = shapes(path.read_text()) - shapes_of_the_table()
        problems += [f"{kernel}: {shape} is not in the table" for shape in sorted(unknown)]
    assert not problems, "\n".join(problems)


def test_a_kernel_with_a_form_that_does_not_exist_is_reported(runner: emulate.Runner, tmp_path: Path) -> None:
    kernel = ROOT / "server/device/emulator/testdata/ptx/vector_add.sm80.ptx"
    text = kernel.read_text()
    assert "add.f32" in text
    changed = tmp_path / "changed.ptx"
    changed.write_text(text.replace("add.f32", "add.sideways.f32"))
    assert runner.load(kernel, 80) == []
    assert any("add.sideways.f32" in problem for problem in runner.load(changed, 80))


@pytest.mark.parametrize("version", ["3.4.0", "3.9.0"])
def test_what_triton_emits_loads_gives_numpys_results_and_is_clean(version: str) -> None:
    build = str(BUILD)
    command = [sys.executable, str(ROOT / "tests/ptx_vocabulary.py"), "--build", build, "--toolchains", str(TOOLCHAINS)]
    done = subprocess.run(
        [*command, "--versions", version, "--sample", "24", "--check", "uninit,race,async"],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
