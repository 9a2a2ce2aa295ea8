"""Random programs answer as an H200 answered.

fuzz_answers.xz is made by tests/gpu/differential.sh on a machine with such a GPU.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import fuzz_answers
import pytest
from differential import Side
from fuzz_programs import FuzzProgram, fuzz_program, pool
from instruction_templates import FAMILIES
from runner_process import RunnerProcess

HERE = Path(__file__).resolve().parent
RUNNER = Path(os.environ.get("TRUN_BUILD_DIR", HERE.parents[1] / "build/dev")) / "tests/ptx_runner"
RECORDED = fuzz_answers.read(HERE / "fuzz_answers.xz")

# Where the GPU gave another answer when its compiler (of driver 580) did not optimise: the emulator's.
OPTIMISED = {
    119: "fp8 from cvt.rn.satfinite.relu.e4m3x2 packed beside a half: the half is lost",
    177: "a division in one way of a branch in a loop whose condition the other way writes",
    562: "a shift of abs.s16 of -32768, taken for a positive number",
}


class Emulator:
    """Answers one program after the other."""

    def __init__(self, folder: Path, checks: str = "") -> None:
        command = ["env", f"TRUN_TEST_CHECKS={checks}", str(RUNNER)] if checks else [str(RUNNER)]
        self.side = Side("emulator", RunnerProcess(command), folder)

    def answer(self, program: FuzzProgram) -> bytes | str:
        path = self.side.folder / program.input
        if not path.exists():
            path.write_bytes(pool(program.input))
        ptx = self.side.folder / "program.ptx"
        ptx.write_text(program.ptx)
        self.side.send(program, ptx)
        return self.side.receive()


@pytest.fixture
def emulator(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Emulator]:
    made = Emulator(tmp_path, getattr(request, "param", ""))
    yield made
    made.side.process.stop()


def test_every_program_answers_as_the_gpu_did(emulator: Emulator) -> None:
    wrong = []
    compared = [one for one in RECORDED if one.seed not in OPTIMISED]
    for theirs in compared:
        program = fuzz_program(theirs.seed)
        answer = emulator.answer(program)
        if isinstance(answer, str):
            wrong.append(f"seed {theirs.seed}: {answer}")
            continue
        mine = fuzz_answers.recorded(program, answer)
        assert mine.ptx == theirs.ptx, f"seed {theirs.seed} gives another program than was recorded: record again"
        if where := fuzz_answers.difference(mine, theirs):
            wrong.append(f"seed {theirs.seed}: {where}")
    assert not wrong, f"{len(wrong)} of {len(compared)}:\n" + "\n".join(wrong)
    assert len(compared) == 597


def test_every_instruction_of_the_fuzzer_is_in_a_recorded_program() -> None:
    text = "".join(fuzz_program(one.seed).ptx for one in RECORDED)
    executed = set(re.findall(r"^(?:@!?%\w+ )?([a-z][\w.:]*) ", text, re.MULTILINE))
    wanted = {template.split(" ")[0] for family in FAMILIES.values() for template in family}
    assert wanted - executed == set()


@pytest.mark.parametrize("emulator", ["uninit,race,async"], indirect=True)
def test_programs_that_are_right_get_no_report(emulator: Emulator) -> None:
    for one in RECORDED[::3]:
        answer = emulator.answer(fuzz_program(one.seed))
        assert not isinstance(answer, str), f"seed {one.seed}: {answer}"


def test_an_answer_with_one_bit_changed_is_noticed(emulator: Emulator) -> None:
    program = fuzz_program(RECORDED[0].seed)
    answer = emulator.answer(program)
    assert not isinstance(answer, str)
    for at in (0, program.head_bytes, len(answer) - 1):
        changed = bytearray(answer)
        changed[at] ^= 1
        mine, theirs = fuzz_answers.recorded(program, bytes(changed)), fuzz_answers.recorded(program, answer)
        assert fuzz_answers.difference(mine, theirs) != ""
