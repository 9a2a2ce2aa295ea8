"""What source_kernels.py imports."""

from __future__ import annotations

import trun
import trun.language as tl

HALF = tl.constexpr(0.5)
OFFSET = tl.constexpr(11)
FACTOR = tl.constexpr(3)


@trun.jit
def relu(x):
    return tl.maximum(x, 0)


@trun.jit
def scaled(x):
    return x * FACTOR


@trun.jit
def half_of(x):
    return x * HALF


@trun.jit
def broken(x):
    y = x + 1
    return y + there_is_no_such_name  # noqa: F821
