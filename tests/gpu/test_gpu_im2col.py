"""Convolutions as im2col by TMA, from Gluon source: the device's bytes are the emulator's, and NumPy's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from box import ROWS

pytest.importorskip("trun.session", reason="needs the Python client")
from im2col_cases import CASES


@pytest.fixture(scope="module")
def toolchain(on_device: Any, on_emulator: Any) -> str:
    """The newest Triton that has im2col descriptors."""
    if on_emulator.target != on_device.target:
        pytest.skip(f"TMA begins with sm_90, and there is no emulator of the device's {on_device.target}")
    names = sorted((t.name for t in on_device.toolchains()), key=lambda name: [int(n) for n in name.split(".")])
    if not names or [int(n) for n in names[-1].split(".")] < [3, 8]:
        pytest.skip("Gluon has im2col descriptors from Triton 3.8 on")
    return names[-1]


@pytest.mark.parametrize("name", list(CASES))
def test_columns_are_the_emulators(on_device: Any, on_emulator: Any, toolchain: str, name: str) -> None:
    _, x, got = CASES[name].run(on_device, toolchain)
    _, _, reference = CASES[name].run(on_emulator, toolchain)
    np.testing.assert_array_equal(reference, CASES[name].expected(x))
    assert got.tobytes() == reference.tobytes()
    ROWS.append((name, "gluon", "the same bits"))
