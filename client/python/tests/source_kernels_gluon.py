"""A Gluon kernel as source."""

from __future__ import annotations

from trun import gluon
from trun.gluon import language as gl

LAYOUT = gl.BlockedLayout([1], [32], [4], [0])


@gluon.jit
def doubled(x):
    return x * 2


@gluon.jit
def copy_scaled(x_ptr, out_ptr, n, BLOCK: gl.constexpr, LAYOUT: gl.constexpr):
    offsets = gl.program_id(0) * BLOCK + gl.arange(0, BLOCK, layout=LAYOUT)
    mask = offsets < n
    gl.store(out_ptr + offsets, doubled(gl.load(x_ptr + offsets, mask=mask)), mask=mask)
