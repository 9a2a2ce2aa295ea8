"""The differential fuzzer finds what it is for, with another emulator in the GPU's place."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from fuzz_programs import fuzz_program
from program_tree import Block, Step, shrink, size, text, without

HERE = Path(__file__).resolve().parent
RUNNER = Path(os.environ.get("TRUN_BUILD_DIR", HERE.parents[1] / "build/dev")) / "tests/ptx_runner"
# Stands between the fuzzer and the emulator, and changes what it is asked.
BETWEEN = """
import json, subprocess, sys
runner = subprocess.Popen([sys.argv[1]], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
for line in sys.stdin:
    request = json.loads(line)
    with open(request["ptx"]) as file:
        text = file.read()
    {change}
    request["ptx"] += ".changed"
    with open(request["ptx"], "w") as file:
        file.write(text)
    runner.stdin.write(json.dumps(request) + "\\n")
    runner.stdin.flush()
    print(runner.stdout.readline(), end="", flush=True)
"""


def fuzz(tmp_path: Path, *options: str, change: str = "", lanes: str = "") -> subprocess.CompletedProcess[str]:
    reference = ["env", f"TRUN_EMULATOR_LANES={lanes}", str(RUNNER)] if lanes else [str(RUNNER)]
    if change:
        script = tmp_path / "between.py"
        script.write_text(BETWEEN.replace("{change}", change))
        reference = [sys.executable, str(script), str(RUNNER)]
    command = [sys.executable, str(HERE / "differential.py"), "--emulator", str(RUNNER), "--jobs", "2"]
    return subprocess.run(
        [*command, "--reference", shlex.join(reference), *options], capture_output=True, text=True, timeout=120
    )


def test_a_planted_difference_is_found_and_its_program_made_as_small_as_the_instruction(tmp_path: Path) -> None:
    change = 'text = text.replace("WARP_SZ", "33")'
    found = fuzz(tmp_path, "--seed", "1", "--count", "60", change=change)
    assert found.returncode == 1, found.stdout + found.stderr
    reports = re.findall(
        r"^seed (\d+): DIFFERENT; \d programs of \d+ threads; what is left of (\d+) steps:\n"
        r"((?:    .*\n)+)((?:  \S.*\n)+)",
        found.stdout,
        re.MULTILINE,
    )
    assert reports, found.stdout
    for _, steps, program, where in reports:
        assert int(steps) > 20
        assert re.fullmatch(r"    (@!?%p\d )?mov\.u32 %r\d+, WARP_SZ;\n", program), program
        assert re.search(
            r"^  %r\d+ of thread \d+ of program \d: reference [0-9a-f]{8}, emulator [0-9a-f]{8}$", where, re.M
        )
    again = fuzz(tmp_path, "--seed", reports[0][0], "--count", "1", change=change)
    assert reports[0][2] in again.stdout
    # Others that differ for the same reason are counted, not made smaller one by one.
    assert re.search(
        r"60 programs .*: \d+ differ, [1-9]\d* more for a reason that was known before, 0 only", found.stdout
    )


def test_what_only_one_side_refuses_is_a_difference(tmp_path: Path) -> None:
    change = 'text = text.replace("cnot.b16", "cnot.b33")'
    found = fuzz(tmp_path, "--seed", "1", "--count", "40", change=change)
    assert found.returncode == 1
    assert re.search(r"^    .*cnot\.b16 .*\n  reference: .*\n  emulator: an answer$", found.stdout, re.MULTILINE), (
        found.stdout
    )


def test_a_side_that_dies_costs_its_own_program_only(tmp_path: Path) -> None:
    change = 'if "cnot.b64" in text and "cnot.b16" in text: sys.exit(3)'
    found = fuzz(tmp_path, "--seed", "1", "--count", "60", change=change)
    assert found.returncode == 1
    assert "reference: lost: " in found.stdout and "ended (3)" in found.stdout
    assert "60 programs from seed 1" in found.stdout


def test_what_is_known_of_the_gpus_compiler_is_counted_apart(tmp_path: Path) -> None:
    change = 'text = text.replace("shr.u16 %h5, %h0, 2147483649;", "shr.u16 %h5, %h0, 1;")'
    found = fuzz(tmp_path, "--seed", "1002281", "--count", "1", change=change)
    assert found.returncode == 1
    assert ": 0 differ, 1 more for a reason that was known before" in found.stdout, found.stdout


@pytest.mark.parametrize("lanes", ["baseline", "avx2"])
def test_the_loops_for_each_instruction_set_of_the_host_answer_alike(tmp_path: Path, lanes: str) -> None:
    found = fuzz(tmp_path, "--seed", "1000", "--count", "200", lanes=lanes)
    assert found.returncode == 0, found.stdout + found.stderr
    assert "200 programs from seed 1000" in found.stdout
    assert ": 0 differ, 0 more" in found.stdout and found.stdout.endswith("0 refused by both\n")


def test_without_a_gpu_it_says_so() -> None:
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, str(HERE / "differential.py"), "--count", "1", "--emulator", str(RUNNER)]
    found = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)
    assert found.returncode == 77
    assert "no GPU answers here" in found.stderr


def test_a_program_is_made_of_its_seed_alone() -> None:
    assert fuzz_program(5).ptx == fuzz_program(5).ptx
    assert len({fuzz_program(seed).ptx for seed in range(20)}) == 20


TREE = Block(
    (("begin",), ("end",)),
    ((Step(("a",)), Block((("if",), ("fi",)), ((Step(("b", "b2")), Step(("c",))),)), Step(("d",))),),
)


def test_a_tree_loses_whole_steps_and_whole_blocks() -> None:
    assert size(TREE) - 1 == 5
    assert list(text(without(TREE, range(0, 1)))) == ["begin", "if", "b", "b2", "c", "fi", "d", "end"]
    assert list(text(without(TREE, range(1, 2)))) == ["begin", "a", "d", "end"]
    assert list(text(without(TREE, range(3, 5)))) == ["begin", "a", "if", "b", "b2", "fi", "end"]


@pytest.mark.parametrize(("needed", "left"), [("c", ["begin", "c", "end"]), ("fi", ["begin", "if", "fi", "end"])])
def test_what_makes_the_difference_is_what_is_left(needed: str, left: list[str]) -> None:
    assert list(text(shrink(TREE, lambda tree: needed in text(tree)))) == left
