"""Global and profile scratch: memory of a launch that a kernel is given behind its arguments, device against emulator.

The kernel is PTX by hand, so that what it does with both areas is known: each program writes its own part of them, and
reads it back after every thread of it has written.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from box import DEVICE, ROWS

GRID, THREADS, PART = 300, 64, 256
KERNEL = Path(__file__).with_name("scratch.ptx")


def metadata(**changed: Any) -> dict[str, Any]:
    return {
        "name": "scratch",
        "num_warps": THREADS // 32,
        "num_ctas": 1,
        "shared": 0,
        "triton_version": "3.9.0",
        "target": {"backend": "cuda", "arch": 80, "warp_size": 32},
        "global_scratch_size": PART,
        "global_scratch_align": 128,
        "profile_scratch_size": PART,
        "profile_scratch_align": 256,
        **changed,
    }


def run(session: Any) -> tuple[Any, Any]:
    """What the programs read back, and where each of the two areas begins, from two launches of one kernel."""
    kernel = session.load(KERNEL, metadata=metadata())
    results = []
    for addend in (1, 1000):
        out, areas = session.zeros((GRID, THREADS), dtype="int32"), session.zeros((GRID, 2), dtype="int64")
        kernel[(GRID,)](out, areas, addend)
        results.append((out.numpy(), areas.numpy()))
    (first, areas), (second, _) = results
    return np.stack([first, second]), areas


def test_each_program_has_its_own_part_of_both_areas(on_device: Any, on_emulator: Any) -> None:
    program, thread = np.arange(GRID)[:, None], np.arange(THREADS)[None, :]
    # Its mirror image's word of the one area, plus three times its neighbour's of the other.
    mirrored, neighbour = THREADS - 1 - thread, (thread + 1) % THREADS
    words = program * 64
    expected = np.stack([(words + mirrored + addend) + 3 * (words + neighbour) for addend in (1, 1000)])
    results = {}
    for session in (on_device, on_emulator):
        got, areas = run(session)
        np.testing.assert_array_equal(got, expected, err_msg=str(session.device))
        assert (areas == areas[0]).all(), "one launch has one area of each kind"
        whole, profile = (int(address) for address in areas[0])
        assert whole % 128 == 0 and profile % 256 == 0 and whole != 0 and profile != 0
        assert abs(whole - profile) >= GRID * PART, "they overlap"
        results[session.device] = got.tobytes()
    assert len(set(results.values())) == 1
    ROWS.append(("scratch", "ptx", "the same bits"))


def test_a_kernel_that_is_given_no_scratch_costs_its_own_launch(box: Any) -> None:
    """Its pointers are null: a session of its own, as a GPU loses its context over it."""
    import trun

    for device in (DEVICE, box.emulator):
        with trun.connect(box.address, device) as session:
            kernel = session.load(KERNEL, metadata=metadata(global_scratch_size=0, profile_scratch_size=0))
            out, areas = session.zeros((GRID, THREADS), dtype="int32"), session.zeros((GRID, 2), dtype="int64")
            with pytest.raises(trun.KernelFaultError):
                kernel[(GRID,)](out, areas, 1)
            # A GPU tells of a wild store when it pleases: other instructions may have run meanwhile.
            assert device == DEVICE or not out.numpy().any()
