"""Every form of Triton's own tests is not only loaded but executed, and its result looked at."""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Iterator
from pathlib import Path

import answers
import emulate
import exact_forms
import forms
import fuzz_answers
import ptx_forms
import pytest
import replay
from fuzz_programs import fuzz_program
from programs import all_programs
from test_fuzz_answers import OPTIMISED
from test_hardware_answers import explanation

ROOT = Path(__file__).resolve().parents[2]
EMULATOR = ROOT / "server/device/emulator"
# Forms that are a recorded program's but for a modifier that changes nothing: .tile is what it is without.
SPELLINGS = {
    "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes": (".global.tile.", ".global."),
    "cp.reduce.async.bulk.tensor.2d.global.shared::cta.and.bulk_group": (".and.tile.", ".and."),
    "cp.reduce.async.bulk.tensor.2d.global.shared::cta.or.bulk_group": (".or.tile.", ".or."),
}


def opcodes(text: str) -> set[str]:
    return {shape.split()[0] for shape, _ in ptx_forms.instances(text)}


def sample() -> set[str]:
    lines = (EMULATOR / "testdata/forms.txt").read_text().splitlines()
    return {line for line in lines if line and not line.startswith("#")}


@functools.cache
def elsewhere() -> set[str]:
    """What recorded programs, the cases of forms.py and the C++ tests' kernels execute; all results are checked."""
    kernels = [*EMULATOR.glob("testdata/ptx/*.ptx"), *EMULATOR.glob("async/testdata/*.ptx")]
    texts = [program.ptx for program in all_programs()] + [case.ptx for case in forms.cases()]
    recorded = fuzz_answers.read(Path(__file__).parent / "fuzz_answers.xz")
    texts += [fuzz_program(one.seed).ptx for one in recorded if one.seed not in OPTIMISED]
    return set().union(*map(opcodes, [*texts, *(path.read_text() for path in kernels)]))


@functools.cache
def here() -> list[exact_forms.Exact]:
    return exact_forms.programs(sorted(sample() - elsewhere()))


@pytest.fixture(scope="module")
def runner() -> Iterator[emulate.Runner]:
    process = emulate.Runner(Path(os.environ.get("TRUN_BUILD_DIR", ROOT / "build/dev")) / "tests/ptx_runner")
    yield process
    process.close()


def test_every_form_of_the_sample_is_executed() -> None:
    executed = set().union(elsewhere(), SPELLINGS, *(opcodes(each.program.ptx) for each in here()))
    missing = sorted(form for form in sample() - executed if form != "call.uni")
    assert len(sample()) == 564 and not missing, f"{len(missing)} forms that no test executes: {missing}"
    assert any("call.uni (z), f" in each.program.ptx for each in here())  # opcodes() leaves calls out


def test_what_is_executed_here_gives_the_defined_results(runner: emulate.Runner) -> None:
    wrong = []
    for each in here():
        found = replay.run(runner, each.program)
        what = found if isinstance(found, str) else replay.differences(each.program, found, each.answer)
        if what:
            wrong.append(f"{each.program.name}: {what}")
    assert not wrong, f"{len(wrong)} of {len(here())}:\n" + "\n".join(wrong)


@pytest.mark.parametrize("form", SPELLINGS)
def test_a_form_without_tile_gives_what_the_gpu_gave_with_it(runner: emulate.Runner, form: str) -> None:
    recorded = answers.read(Path(__file__).parent / "h100_answers.xz").answers
    old, new = SPELLINGS[form]
    spelled = form.replace(new, old)
    program = next(p for p in all_programs() if spelled in p.ptx and p.name in recorded and not explanation(p))
    found = replay.run(runner, dataclasses.replace(program, ptx=program.ptx.replace(spelled, form)))
    assert isinstance(found, bytes), found
    assert not replay.differences(program, found, recorded[program.name][1])
