"""Every example kernel, from every level, on the device and on the emulator: the same bits, or a difference explained.

Both run the same PTX, so whatever PTX specifies exactly must agree to the bit. EXPLAINED lists the kernels that hold an
instruction that PTX leaves open, with a bound in units of the last place of the output's type; its reason is printed
beside what was measured. A bound in ulp is of the output's largest magnitude: sums that cancel have no meaning in their
own ulp.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from box import DEVICE, ROWS
from cases import CASES, Case
from kernels import EXAMPLES

LEVELS = ["ttir", "ttgir", "llir", "ptx", "cubin"]

TENSOR_CORES = "tensor cores add the products of a step in an order and a width of their own"
# Kernel: bound in ulp of the largest element, and why.
EXPLAINED: dict[str, tuple[float, str]] = {
    "softmax": (4, "ex2.approx and div.full are approximations of 2 ulp"),
    "layer_norm": (4, "sqrt.approx and div.full are approximations of 2 ulp"),
    "reduce_sum": (8, "atom.add commits in the order in which programs end"),
    "matmul": (8, TENSOR_CORES),
    "matmul_fp16": (1, TENSOR_CORES + ", then rounded to fp16"),
    "matmul_bf16": (1, TENSOR_CORES + ", then rounded to bf16"),
    "matmul_tf32": (8, TENSOR_CORES),
}


def run(session: Any, kernel: Any, case: Case) -> dict[int, Any]:
    """The outputs, after one launch; checked against NumPy within the case's own tolerance."""
    given = [session.tensor(a) if isinstance(a, np.ndarray) else a for a in case.arguments]
    kernel[case.grid](*given)
    outputs = {}
    for position, expected in case.expected.items():
        outputs[position] = given[position].numpy()
        worst = float(np.abs(outputs[position].astype(np.float64) - expected).max())
        assert worst <= case.tolerance, f"{session.device}: argument {position} is off by {worst} from NumPy"
    return outputs


def ulps(got: Any, reference: Any) -> float:
    """The largest difference, in units of the last place of the largest element."""
    got64, reference64 = got.astype(np.float64), reference.astype(np.float64)
    largest = np.abs(reference64).max() or 1.0
    if got.dtype.kind in "iu":
        return float(np.abs(got64 - reference64).max())
    bits = {"float16": 10, "bfloat16": 7, "float32": 23, "float64": 52}[str(got.dtype)]
    return float(np.abs(got64 - reference64).max() / 2.0 ** (np.floor(np.log2(largest)) - bits))


def artifacts(session: Any, name: str, target: str) -> Any:
    """The kernel with every level of it that the device can be given."""
    last = "ptx" if DEVICE.startswith("emulator:") else "cubin"
    return session.load(EXAMPLES / f"{name}.ttir", target=target, to=last)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("name", list(CASES))
def test_an_example_gives_the_emulators_numbers(
    box: Any, on_device: Any, on_emulator: Any, name: str, level: str
) -> None:
    if level == "cubin" and DEVICE.startswith("emulator:"):
        pytest.skip("the emulator runs PTX: a cubin has none")
    if level == "cubin" and on_emulator.target != on_device.target:
        pytest.skip(f"no emulator of the device's {on_device.target}: its cubin is of another PTX")
    case = CASES[name][1]()
    made = artifacts(on_device, name, on_emulator.target)
    source = (EXAMPLES / f"{name}.ttir").read_bytes() if level == "ttir" else made.asm[level]
    source = source.encode() if isinstance(source, str) else source
    metadata = None if level == "ttir" else made.metadata
    arguments = {"level": level, "metadata": metadata, "target": on_emulator.target}
    got = run(on_device, on_device.load(source, **arguments), case)
    if level == "cubin":
        arguments["level"], source = "ptx", made.asm["ptx"].encode()
    reference = run(on_emulator, on_emulator.load(source, **arguments), case)

    worst = max(ulps(got[position], reference[position]) for position in got)
    if all(got[position].tobytes() == reference[position].tobytes() for position in got):
        ROWS.append((name, level, "the same bits"))
        return
    bound, reason = EXPLAINED.get(name, (0.0, "nothing explains a difference"))
    verdict = f"{worst:.3g} ulp of the largest element, {bound:g} allowed: {reason}"
    ROWS.append((name, level, verdict))
    assert worst <= bound, verdict


def test_a_whole_number_output_is_the_same_even_where_floats_may_differ(on_device: Any, on_emulator: Any) -> None:
    case = CASES["reduce_sum"][1]()
    counts = []
    for session in (on_device, on_emulator):
        kernel = session.load(EXAMPLES / "reduce_sum.ttir", target=on_emulator.target)
        counts.append(int(run(session, kernel, case)[2][0]))
    assert counts[0] == counts[1] == int(case.expected[2])


def test_the_compiled_example_runs_on_any_device(on_device: Any, on_emulator: Any) -> None:
    """PTX of sm_80, which a device of sm_80 and later takes."""
    case = CASES["vector_add"][1]()
    results = []
    for session in (on_device, on_emulator):
        results.append(run(session, session.load(EXAMPLES / "vector_add.sm80.ptx"), case)[2])
    assert results[0].tobytes() == results[1].tobytes()
