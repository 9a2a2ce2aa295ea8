"""Memory, atomics, warps, matrices and asynchronous copies answer as an H100 answered.

h100_answers.xz is made by record_programs.py on a machine with such a GPU.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Iterator
from pathlib import Path

import answers
import emulate
import pytest
import replay
from memory_forms import Program
from programs import all_programs

ROOT = Path(__file__).resolve().parents[2]
RECORDED = answers.read(Path(__file__).parent / "h100_answers.xz")
# Where the GPU writes what PTX does not ask for.
PADDING = "a reduction of a row that is no multiple of 16 bytes also changes the padding behind it"
PADDED = (
    "tensor max s32 [17, 10] box [16, 9] at [4, 3] swizzle 0",
    "tensor max f16 [76, 11] box [64, 9] at [16, 3] swizzle 3",
    "tensor or u32 [11, 10] box [8, 8] at [4, 1] swizzle 0",
)


def explanation(program: Program) -> str:
    """Why the GPU's answer is not the one to give; empty: it is."""
    return PADDING if program.name in PADDED else ""


@pytest.fixture(scope="module", params=["", "uninit,race,async"], ids=["plain", "checked"])
def runner(request: pytest.FixtureRequest) -> Iterator[emulate.Runner]:
    """With every check, too: what runs well on a GPU has nothing to report."""
    binary = Path(os.environ.get("TRUN_BUILD_DIR", ROOT / "build/dev")) / "tests/ptx_runner"
    process = emulate.Runner(binary, request.param)
    yield process
    process.close()


def family(program: Program) -> str:
    return re.split(r"[ .]", program.name)[0]


FAMILIES = sorted({family(program) for program in all_programs()})


@pytest.mark.parametrize("name", FAMILIES)
def test_every_program_answers_as_the_gpu_did(runner: emulate.Runner, name: str) -> None:
    wrong, compared, unanswered = [], 0, 0
    for program in all_programs():
        if family(program) != name:
            continue
        if program.name not in RECORDED.answers:
            unanswered += 1
            continue
        digest, theirs = RECORDED.answers[program.name]
        assert digest == answers.digest(program.ptx), (
            f"{program.name} is not the program that was recorded: record again"
        )
        if explanation(program):
            continue
        mine = replay.run(runner, program)
        what = mine if isinstance(mine, str) else replay.differences(program, mine, theirs)
        compared += 1
        if what:
            wrong.append(f"{program.name}: {what}")
    assert not wrong, f"{len(wrong)} of {compared}:\n" + "\n".join(wrong)
    assert compared > unanswered


def test_what_the_gpu_refuses_the_emulator_refuses_too(runner: emulate.Runner) -> None:
    """The recorded programs without an answer are tensor stores at negative coordinates: an illegal instruction."""
    refused = [program for program in all_programs() if program.name not in RECORDED.answers]
    assert len(refused) == 31
    for program in refused:
        answer = replay.run(runner, program)
        assert isinstance(answer, str) and "at the negative coordinate" in answer, program.name


def test_a_tensor_copy_that_begins_between_16_bytes_is_refused(runner: emulate.Runner) -> None:
    """So does an H100 (illegal instruction), with maps made on the device and maps made by its driver."""
    program = next(p for p in all_programs() if p.name.startswith("tensor load f32 ["))
    text, changed = re.subn(r"\[%d60, \{-?\d+", "[%d60, {3", program.ptx)
    assert changed == 1
    answer = replay.run(runner, dataclasses.replace(program, ptx=text))
    assert isinstance(answer, str) and "multiple of 16 bytes" in answer
