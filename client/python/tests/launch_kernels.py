"""Kernels that need more of a launch than a grid and arguments."""

from __future__ import annotations

import trun
import trun.language as tl
from trun import gluon
from trun.gluon import language as gl


@trun.jit
def told(out_ptr, n):
    """The fake driver's kernel of this name prints what it was told of the launch. One that prints is listened to."""
    tl.store(out_ptr + tl.arange(0, 256), n)
    tl.device_print("told", n)


@trun.jit
def barrier(counter_ptr, out_ptr, PROGRAMS: tl.constexpr):
    """Every program waits for all others: in a grid that is not resident as a whole nobody would ever go on."""
    tl.atomic_add(counter_ptr, 1)
    while tl.atomic_add(counter_ptr, 0) < PROGRAMS:
        pass
    tl.store(out_ptr + tl.program_id(0), tl.atomic_add(counter_ptr, 0))


@trun.jit
def dependent(x_ptr, out_ptr, BLOCK: tl.constexpr):
    """Waits for the kernel before it, and lets the one after it begin."""
    tl.extra.cuda.gdc_wait()
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(x_ptr + at)
    tl.extra.cuda.gdc_launch_dependents()
    tl.store(out_ptr + at, x + 1)


@trun.jit
def spread(x_ptr, out_ptr, count_ptr, BLOCK: tl.constexpr):
    """A tile that the CTAs of a cluster share; each program counts itself once."""
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out_ptr + at, tl.load(x_ptr + at) * 2)
    tl.atomic_add(count_ptr + tl.program_id(0), 1)


@trun.jit
def staged_dot(a_ptr, b_ptr, c_ptr, k, N: tl.constexpr, BLOCK_K: tl.constexpr):
    """A pipeline of several stages: more shared memory than a launch gets without asking."""
    rows, inner = tl.arange(0, N), tl.arange(0, BLOCK_K)
    total = tl.zeros((N, N), dtype=tl.float32)
    for start in range(0, k, BLOCK_K):
        a = tl.load(a_ptr + rows[:, None] * k + start + inner[None, :])
        b = tl.load(b_ptr + (start + inner[:, None]) * N + rows[None, :])
        total += tl.dot(a, b)
    tl.store(c_ptr + rows[:, None] * N + rows[None, :], total)


@trun.jit
def host_tiles(source, target, BLOCK: tl.constexpr):
    row, column = tl.program_id(0) * BLOCK, tl.program_id(1) * BLOCK
    target.store([row, column], source.load([row, column]) + 1)


@trun.jit
def device_tiles(source_ptr, target_ptr, m, n, BLOCK: tl.constexpr):
    source = tl.make_tensor_descriptor(source_ptr, [m, n], [n, 1], [BLOCK, BLOCK])
    target = tl.make_tensor_descriptor(target_ptr, [m, n], [n, 1], [BLOCK, BLOCK])
    row, column = tl.program_id(0) * BLOCK, tl.program_id(1) * BLOCK
    target.store([row, column], source.load([row, column]) + 1)


@gluon.jit
def first_half(x_ptr, out_ptr, BLOCK: gl.constexpr):
    at = gl.arange(0, BLOCK, layout=gl.BlockedLayout([1], [32], [4], [0]))
    gl.store(out_ptr + at, gl.load(x_ptr + at) + 1)


@gluon.jit
def second_half(x_ptr, out_ptr, BLOCK: gl.constexpr):
    at = BLOCK + gl.arange(0, BLOCK, layout=gl.BlockedLayout([1], [32], [4], [0]))
    gl.store(out_ptr + at, gl.load(x_ptr + at) * 2)


@gluon.jit
def specialised(x_ptr, out_ptr, BLOCK: gl.constexpr):
    """Four warps of the block do one half, four others the other."""
    gl.warp_specialize(
        [(first_half, (x_ptr, out_ptr, BLOCK)), (second_half, (x_ptr, out_ptr, BLOCK))],
        [4],
        [64],
    )
