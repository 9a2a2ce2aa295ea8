"""Kernels that are right, and go wrong by how they are launched."""

from __future__ import annotations

import trun
import trun.language as tl
from trun import gluon
from trun.gluon import language as gl

LAYOUT = gl.BlockedLayout([1], [32], [4], [0])


@trun.jit
def fill(out_ptr, addend, BLOCK: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out_ptr + offsets, offsets + addend)  # the store of jit


@gluon.jit
def gluon_fill(out_ptr, addend, BLOCK: gl.constexpr):
    offsets = gl.program_id(0) * BLOCK + gl.arange(0, BLOCK, layout=LAYOUT)
    gl.store(out_ptr + offsets, offsets + addend)  # the store of gluon


@trun.jit
def endless(out_ptr, flag, BLOCK: tl.constexpr):
    while tl.atomic_add(out_ptr, 0) < flag:
        pass


@gluon.jit
def gluon_endless(out_ptr, flag, BLOCK: gl.constexpr):
    while gl.atomic_add(out_ptr, 0) < flag:
        pass


def takes_text(out_ptr, flag: tl.constexpr):
    tl.store(out_ptr, 1)
