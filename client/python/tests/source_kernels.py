"""Kernels as Python source, of all the shapes that a dependency walk has to follow."""

from __future__ import annotations

from typing import Any, NamedTuple

import source_kernels_library as library
import trun
import trun.language as tl
from source_kernels_library import HALF, half_of, relu

SHIFT = tl.constexpr(2)
NAMES = ("plus", "minus")
DEFAULT = 3
DTYPE = tl.constexpr(tl.float32)
unused_here = object()  # nothing a kernel could use, and none does


@trun.jit
def add_shifted(x, y):
    return x + y + SHIFT


@trun.jit
def add(x_ptr, y_ptr, out_ptr, n, BLOCK: tl.constexpr = 128):
    """Nested calls, a constexpr global, a default argument."""
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = offsets < n
    z = add_shifted(tl.load(x_ptr + offsets, mask=mask), tl.load(y_ptr + offsets, mask=mask))
    tl.store(out_ptr + offsets, z, mask=mask)


@trun.jit
def from_other_modules(x_ptr, out_ptr, n, BLOCK: tl.constexpr):
    """Functions and constants of another module, by module and by name; a docstring with `quotes` and \\ escapes."""
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = offsets < n
    x = tl.load(x_ptr + offsets, mask=mask)
    x = library.scaled(relu(x)) + half_of(x) * HALF + library.OFFSET
    tl.store(out_ptr + offsets, x, mask=mask)


def scaled_by(factor: Any) -> Any:
    """A kernel whose closure holds a function and a number."""

    @trun.jit
    def scale(x):
        return x * factor

    offset = tl.constexpr(7)

    @trun.jit
    def kernel(x_ptr, out_ptr, n, BLOCK: tl.constexpr):
        offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
        mask = offsets < n
        tl.store(out_ptr + offsets, scale(tl.load(x_ptr + offsets, mask=mask)) + offset, mask=mask)

    return kernel


@trun.jit
def unrolled(x_ptr, out_ptr, n, STEPS: tl.constexpr, BLOCK: tl.constexpr):
    """static_range, constexpr conditions, a string and a dtype as compile-time values."""
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = offsets < n
    total = tl.zeros([BLOCK], dtype=DTYPE)
    for i in tl.static_range(STEPS):
        value = tl.load(x_ptr + offsets, mask=mask)
        if i % 2 == 0:
            total += value * (i + 1)
        else:
            total -= value
    tl.store(out_ptr + offsets, total, mask=mask)


@trun.jit
def moded(x_ptr, out_ptr, n, MODE: tl.constexpr, KIND: tl.constexpr, BLOCK: tl.constexpr):
    offsets = tl.arange(0, BLOCK)
    mask = offsets < n
    x = tl.load(x_ptr + offsets, mask=mask).to(KIND)
    if MODE == "square":
        x = x * x
    tl.store(out_ptr + offsets, x, mask=mask)


@trun.jit
def optional(x_ptr, bias_ptr, out_ptr, n, scale, stride, BLOCK: tl.constexpr):
    """None, an int equal to 1, floats."""
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = offsets < n
    x = tl.load(x_ptr + offsets * stride, mask=mask) * scale
    if bias_ptr is not None:
        x += tl.load(bias_ptr + offsets, mask=mask)
    tl.store(out_ptr + offsets, x, mask=mask)


@trun.jit
def sum_of_tuple(values, out_ptr, n, BLOCK: tl.constexpr):
    """A tuple of pointers and numbers."""
    offsets = tl.arange(0, BLOCK)
    mask = offsets < n
    total = tl.load(values[0] + offsets, mask=mask) + tl.load(values[1][0] + offsets, mask=mask) * values[1][1]
    tl.store(out_ptr + offsets, total, mask=mask)


class Pair(NamedTuple):
    first: Any
    second: Any


@trun.jit
def fields(pair, out_ptr, BLOCK: tl.constexpr):
    """A named tuple."""
    offsets = tl.arange(0, BLOCK)
    tl.store(out_ptr + offsets, tl.load(pair.first + offsets) - tl.load(pair.second + offsets))


@trun.jit
def matmul(
    a_ptr, b_ptr, c_ptr, m, n, k, stride_am, stride_bk, stride_cm,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, EVEN_K: tl.constexpr,
):  # fmt: skip
    rows = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    columns = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    inner = tl.arange(0, BLOCK_K)
    total = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)
    for start in range(0, k, BLOCK_K):
        depth = start + inner
        if EVEN_K:
            a = tl.load(a_ptr + rows[:, None] * stride_am + depth[None, :], mask=rows[:, None] < m, other=0.0)
            b = tl.load(b_ptr + depth[:, None] * stride_bk + columns[None, :], mask=columns[None, :] < n, other=0.0)
        else:
            a_mask = (rows[:, None] < m) & (depth[None, :] < k)
            b_mask = (depth[:, None] < k) & (columns[None, :] < n)
            a = tl.load(a_ptr + rows[:, None] * stride_am + depth[None, :], mask=a_mask, other=0.0)
            b = tl.load(b_ptr + depth[:, None] * stride_bk + columns[None, :], mask=b_mask, other=0.0)
        total += tl.dot(a, b)
    mask = (rows[:, None] < m) & (columns[None, :] < n)
    tl.store(c_ptr + rows[:, None] * stride_cm + columns[None, :], total, mask=mask)


@trun.jit
def tiles(source, target, BLOCK: tl.constexpr):
    """Host-made tensor descriptors."""
    row, column = tl.program_id(0) * BLOCK, tl.program_id(1) * BLOCK
    tile = source.load([row, column])
    target.store([row, column], tile + 1)


@trun.jit
def device_tiles(source_ptr, target_ptr, m, n, BLOCK: tl.constexpr):
    """Device-made tensor descriptors."""
    source = tl.make_tensor_descriptor(source_ptr, [m, n], [n, 1], [BLOCK, BLOCK])
    target = tl.make_tensor_descriptor(target_ptr, [m, n], [n, 1], [BLOCK, BLOCK])
    row, column = tl.program_id(0) * BLOCK, tl.program_id(1) * BLOCK
    target.store([row, column], source.load([row, column]) + 1)


@trun.jit
def applied(x_ptr, out_ptr, FUNCTION: tl.constexpr, BLOCK: tl.constexpr):
    """A kernel's function as an argument."""
    offsets = tl.arange(0, BLOCK)
    tl.store(out_ptr + offsets, FUNCTION(tl.load(x_ptr + offsets)))


@trun.jit(noinline=True)
def separate(x):
    return x * 5


@trun.jit
def calls_separate(x_ptr, out_ptr, BLOCK: tl.constexpr):
    offsets = tl.arange(0, BLOCK)
    tl.store(out_ptr + offsets, separate(tl.load(x_ptr)))


@trun.jit
def uses_library(x_ptr, out_ptr, BLOCK: tl.constexpr):
    """tl.math, a reduction of Triton's own library, trun.cdiv on constants."""
    offsets = tl.arange(0, BLOCK)
    x = tl.load(x_ptr + offsets)
    tl.store(out_ptr + offsets, tl.math.exp(x - tl.max(x, axis=0)) + tl.cdiv(BLOCK, 48))


@trun.jit(do_not_specialize=["n"])
def unspecialised(out_ptr, n):
    tl.store(out_ptr, n)


@trun.jit
def annotated(out_ptr, n: tl.int64, m: "tl.float32"):  # noqa: UP037
    tl.store(out_ptr, n + m)


@trun.jit
def prints(x_ptr):
    tl.device_print("value", tl.load(x_ptr))


@trun.jit
def prints_while_it_is_compiled(x_ptr, BLOCK: tl.constexpr):
    tl.static_print("compiled for", BLOCK)
    tl.store(x_ptr + tl.arange(0, BLOCK), 1.0)


@trun.jit
def wrong_after_printing(x_ptr, BLOCK: tl.constexpr):
    tl.static_print("seen", BLOCK)
    tl.static_assert(BLOCK == 1)


@trun.jit
def wrong(x_ptr, n):
    x = tl.load(x_ptr)
    tl.store(x_ptr, x.no_such_attribute)


@trun.jit
def wrong_below(x_ptr):
    tl.store(x_ptr, library.broken(tl.load(x_ptr)))


@trun.jit
def asserts(x_ptr, BLOCK: tl.constexpr):
    tl.static_assert(BLOCK > 100, "blocks have more than 100")
    tl.store(x_ptr, BLOCK)


@trun.jit
def uses_plain_global(x_ptr):
    tl.store(x_ptr, DEFAULT)


@trun.jit
def fill(out_ptr, addend, BLOCK: tl.constexpr):
    """What the fake driver's kernel of this name does where BLOCK is the number of threads."""
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out_ptr + offsets, offsets + addend)


@trun.jit
def accumulate(x_ptr, out_ptr, n, BLOCK: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = offsets < n
    tl.store(out_ptr + offsets, tl.load(out_ptr + offsets, mask=mask) + tl.load(x_ptr + offsets, mask=mask), mask=mask)
