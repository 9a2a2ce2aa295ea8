"""Gluon kernels that load columns of pixels through a tensor descriptor in im2col mode: see im2col_cases.py.

Each writes out[tap, pixel, channel]; the program (i, …) takes the PIXELS pixels of the bounding box from i * PIXELS on.
"""

from __future__ import annotations

from trun import gluon
from trun.gluon import language as gl
from trun.gluon.language.nvidia.hopper import mbarrier, tma


@gluon.jit
def copy_column(x, at, offsets, out, first_row, PIXELS: gl.constexpr, CHANNELS: gl.constexpr):
    layout: gl.constexpr = gl.BlockedLayout([1, 4], [4, 8], [4, 1], [1, 0])
    buffer = gl.allocate_shared_memory(x.dtype, [PIXELS, CHANNELS], x.layout)
    bar = gl.allocate_shared_memory(gl.int64, [1], mbarrier.MBarrierLayout())
    mbarrier.init(bar, count=1)
    mbarrier.expect(bar, PIXELS * CHANNELS * (x.dtype.primitive_bitwidth // 8))
    tma.async_load_im2col(x, at, offsets, bar, buffer)
    mbarrier.wait(bar, 0)
    mbarrier.invalidate(bar)
    rows = first_row + gl.arange(0, PIXELS, gl.SliceLayout(1, layout))
    columns = gl.arange(0, CHANNELS, gl.SliceLayout(0, layout))
    gl.store(out + rows[:, None] * CHANNELS + columns[None, :], buffer.load(layout))


@gluon.jit
def unfold_1d(x, out, lower, box, step, rate, channel, pixels, PIXELS: gl.constexpr, CHANNELS: gl.constexpr):
    first = gl.program_id(0) * PIXELS
    image = first // box
    tap = gl.program_id(1)
    at = (image, lower + (first - image * box) * step, channel)
    copy_column(x, at, ((tap * rate).to(gl.int16),), out, tap * pixels + first, PIXELS, CHANNELS)


@gluon.jit
def unfold_2d(x, out, lower, box, step, rate, channel, pixels, PIXELS: gl.constexpr, CHANNELS: gl.constexpr):
    first = gl.program_id(0) * PIXELS
    row = first // box[1]
    image = row // box[0]
    r = gl.program_id(2)
    s = gl.program_id(1)
    at = (image, lower[0] + (row - image * box[0]) * step[0], lower[1] + (first - row * box[1]) * step[1], channel)
    offsets = ((r * rate).to(gl.int16), (s * rate).to(gl.int16))
    tap = r * gl.num_programs(1) + s
    copy_column(x, at, offsets, out, tap * pixels + first, PIXELS, CHANNELS)


@gluon.jit
def unfold_3d(
    x, out, lower, box, step, rate, channel, pixels, PIXELS: gl.constexpr, CHANNELS: gl.constexpr, TAPS: gl.constexpr
):
    first = gl.program_id(0) * PIXELS
    row = first // box[2]
    slab = row // box[1]
    image = slab // box[0]
    s = gl.program_id(1)
    q = gl.program_id(2) // TAPS
    r = gl.program_id(2) - q * TAPS
    at = (
        image,
        lower[0] + (slab - image * box[0]) * step[0],
        lower[1] + (row - slab * box[1]) * step[1],
        lower[2] + (first - row * box[2]) * step[2],
        channel,
    )
    offsets = ((q * rate).to(gl.int16), (r * rate).to(gl.int16), (s * rate).to(gl.int16))
    tap = gl.program_id(2) * gl.num_programs(1) + s
    copy_column(x, at, offsets, out, tap * pixels + first, PIXELS, CHANNELS)
