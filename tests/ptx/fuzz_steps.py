"""Steps of random programs beyond registers: memory, atomics, exchanges between threads, matrices, asynchronous copies.

What a step uses, fuzz_programs.py sets up: %slot, this thread's 32 bytes of shared memory; %swap, 16 bytes a thread
that others read; %cells and %out, cells of 8 bytes that one atomic operation each has (CELLS); %local, 64 bytes; %row,
this thread's line of the input; %bar, mbarriers that are used once; %mask, the lanes of the warp. %t, %w, %m, %v are
scratch.
"""

from __future__ import annotations

import re

from fuzz_writer import Writer, settle
from program_tree import Step

ROW = 112  # bytes of a thread's registers in the input and the answer
# An operation for each cell, so that no order of the threads matters.
CELLS = ("add.u32", "min.s32", "max.u32", "and.b32", "or.b32", "xor.b32", "add.u64", "max.s64")
SLOT, SWAP, BARRIERS = 32, 16, 24
LETTER = {16: "H", 32: "R", 64: "D"}
SCRATCH = {"%r": "%t", "%d": "%w", "%h": "%x"}


def step(*lines: str) -> Step:
    return Step(lines)


def move(w: Writer, opcode: str, bits: int, address: str, load: bool, vector: int = 1) -> str:
    letter = LETTER[bits]
    names = w.distinct(letter, vector) if load else [w.register(letter) for _ in range(vector)]
    group = names[0] if vector == 1 else "{" + ", ".join(names) + "}"
    suffix = "" if vector == 1 else f".v{vector}"
    guard = w.guard() if w.pick(6) == 0 else ""
    operands = f"{group}, [{address}]" if load else f"[{address}], {group}"
    return f"{guard}{opcode}{suffix}.b{bits} {operands};"


def widths(w: Writer, room: int) -> tuple[int, int, int]:
    """Bits, elements and an aligned offset."""
    bits = (16, 32, 64)[w.pick(3)]
    vector = (1, 2, 4)[w.pick(3)]
    while bits // 8 * vector > min(16, room):
        vector //= 2
    size = bits // 8 * vector
    return bits, vector, size * w.pick(room // size)


def narrow_load(w: Writer, space: str, base: str, room: int) -> str:
    kind = w.one("u8", "s8", "u16", "s16", "u32", "s32")
    size = int(kind[1:]) // 8
    letter = w.one("R", "D") if size < 4 else "D"
    return f"ld{space}.{kind} {w.register(letter)}, [{base}+{size * w.pick(room // size)}];"


def slot(w: Writer) -> Step:
    """A thread's own shared memory: stored in one width, loaded in another."""
    space = w.one(".shared", ".shared", ".volatile.shared", "")
    base, first = "%slot", []
    if space == "":
        base, first = "%w11", ["cvt.u64.u32 %w11, %slot;", "cvta.shared.u64 %w11, %w11;"]
    lines = list(first)
    bits, vector, offset = widths(w, SLOT)
    lines.append(move(w, f"st{space}", bits, f"{base}+{offset}", False, vector))
    if w.pick(3) == 0:
        lines.append(narrow_load(w, space, base, SLOT))
    else:
        bits, vector, offset = widths(w, SLOT)
        lines.append(move(w, f"ld{space}", bits, f"{base}+{offset}", True, vector))
    return step(*lines)


def slot_atomic(w: Writer) -> Step:
    """An atomic on memory that no other thread has: its old value and what it leaves are certain."""
    kind = w.one(
        "add.u32", "add.u64", "min.s32", "max.u32", "min.u64", "max.s64", "and.b32", "or.b64", "xor.b32",
        "exch.b32", "exch.b64", "inc.u32", "dec.u32", "cas.b32", "cas.b64", "add.f32", "add.f64", "add.noftz.f16",
        "add.noftz.f16x2", "add.noftz.bf16x2", "cas.b16",
    )  # fmt: skip
    bits = 16 if kind.endswith(("b16", ".f16")) else 64 if kind.endswith("64") else 32
    letter = LETTER[bits]
    target = w.register(letter)
    offset = bits // 8 * w.pick(SLOT * 8 // bits)
    place = f"[%slot+{offset}]"
    extra = f", {w.register(letter)}" if kind.startswith("cas") else ""
    line = (
        f"atom{w.one('', '.relaxed.cta', '.acq_rel.gpu')}.shared.{kind} {target}, {place}, {w.register(letter)}{extra};"
    )
    lines = [f"st.shared.b{bits} {place}, {w.register(letter)};", line]
    # The old value is what was stored; a sum may be a NaN.
    if kind.startswith("add.") and "f" in kind.removeprefix("add.noftz."):
        lines += [f"ld.shared.b{bits} {target}, {place};", *settle(f"add.{kind.split('.')[-1]} {target},")]
        lines.append(f"st.shared.b{bits} {place}, {target};")
    return step(*lines)


def local(w: Writer) -> Step:
    bits, vector, offset = widths(w, 16)
    first = [f"and.b32 %t0, {w.register('R')}, 3;", "mad.lo.u32 %t0, %t0, 16, %local;"]
    second = [f"and.b32 %t0, {w.register('R')}, 3;", "mad.lo.u32 %t0, %t0, 16, %local;"]
    lines = [*first, move(w, "st.local", bits, f"%t0+{offset}", False, vector)]
    if w.pick(2):
        bits, vector, offset = widths(w, 16)
        lines += [*second, move(w, "ld.local", bits, f"%t0+{offset}", True, vector)]
    else:
        lines += [*second, narrow_load(w, ".local", "%t0", 16)]
    return step(*lines)


def table(w: Writer) -> Step:
    """Constant and initialised global memory, at an index of the thread's own."""
    space = w.one("const", "global", "global.nc")
    name = "constants" if space == "const" else "numbers"
    kind = w.one("b32", "b64", "u8", "s16")
    size = int(kind[1:]) // 8
    letter = "D" if kind == "b64" else "R"
    return step(
        f"mov.u64 %w11, {name};",
        f"and.b32 %t0, {w.register('R')}, {64 // size - 1};",
        f"mad.wide.u32 %w11, %t0, {size}, %w11;",
        f"ld.{space}.{kind} {w.register(letter)}, [%w11];",
    )


def own_input(w: Writer) -> Step:
    cache = w.one("", ".nc", ".volatile", ".relaxed.gpu", ".acquire.cta")
    where = "ld.global.nc" if cache == ".nc" else f"ld{cache}.global"
    bits, vector, offset = widths(w, ROW - ROW % 16)
    return step(move(w, where, bits, f"%row+{offset}", True, vector if cache in ("", ".nc") else 1))


def cells(w: Writer) -> Step:
    """Of many threads at one place; nobody looks before the end."""
    number = w.pick(len(CELLS))
    letter = "D" if CELLS[number].endswith("64") else "R"
    space, base = (("global", "%out"), ("shared", "%cells"))[w.pick(2)]
    guard = w.guard() if w.pick(3) == 0 else ""
    order = w.one("", ".relaxed.gpu", ".relaxed.cta" if space == "shared" else ".release.gpu", ".acq_rel.sys")
    if w.pick(2):
        order = order if order != ".acq_rel.sys" else ""
        return step(f"{guard}red{order}.{space}.{CELLS[number]} [{base}+{8 * number}], {w.register(letter)};")
    old = "%w11" if letter == "D" else "%t0"
    return step(f"{guard}atom{order}.{space}.{CELLS[number]} {old}, [{base}+{8 * number}], {w.register(letter)};")


def carries(w: Writer) -> Step:
    chain = w.one(
        "add.cc.u32 %t0, R, R; addc.cc.u32 R, R, R; addc.u32 R, R, %t0;",
        "sub.cc.u32 %t0, R, R; subc.cc.u32 R, R, R; subc.u32 R, R, 0;",
        "add.cc.u64 %w11, D, D; addc.u64 D, D, %w11;",
        "sub.cc.u64 %w11, D, D; subc.u64 D, D, D;",
        "mad.lo.cc.u32 %t0, R, R, R; madc.hi.u32 R, R, R, R; xor.b32 R, R, %t0;",
        "mad.hi.cc.u32 %t0, R, R, R; madc.lo.cc.u32 R, R, R, %t0; addc.u32 R, 0, 0;",
    )
    return step(re.sub(r"\b[RD]\b", lambda match: w.register(match.group()), chain))


def division(w: Writer) -> Step:
    """The divisor is never zero, and not -1 where it is signed."""
    kind = w.one("u16", "s16", "u32", "s32", "u64", "s64")
    bits = int(kind[1:])
    letter = LETTER[bits]
    scratch = {"H": "%x0", "R": "%t0", "D": "%w11"}[letter]
    lines = [f"or.b{bits} {scratch}, {w.register(letter)}, 1;"]
    if kind[0] == "s":
        lines = [f"and.b{bits} {scratch}, {w.register(letter)}, {0x7FF0};", f"or.b{bits} {scratch}, {scratch}, 3;"]
        if w.pick(2):
            lines.append(f"neg.s{bits} {scratch}, {scratch};")
    return step(*lines, f"{w.one('div', 'rem')}.{kind} {w.register(letter)}, {w.register(letter)}, {scratch};")


def collective(w: Writer, mask: str, whole: bool) -> Step:
    """Among the lanes of `mask`; `whole`: all 32, so that a shuffle finds each."""
    r, p = w.register("R"), w.register("P")
    given = "-1" if whole and w.pick(2) else mask
    forms = [
        f"vote.sync.ballot.b32 {r}, {w.one('', '!')}{w.register('P')}, {given};",
        f"vote.sync.{w.one('any', 'all', 'uni')}.pred {p}, {w.one('', '!')}{w.register('P')}, {given};",
        f"redux.sync.{w.one('add', 'min', 'max')}.{w.one('s32', 'u32')} {r}, {w.register('R')}, {given};",
        f"redux.sync.{w.one('and', 'or', 'xor')}.b32 {r}, {w.register('R')}, {given};",
        f"match.any.sync.b32 {r}, {w.register('R')}, {given};",
        f"match.any.sync.b64 {r}, {w.register('D')}, {given};",
        f"match.all.sync.b32 {r}|{p}, {w.register('R')}, {given};",
        f"elect.sync {r}|{p}, {given};",
    ]
    if whole:
        also = w.one("", f"|{p}")
        clamp = w.one("0", "31", "0x1c03", "0x181f", "0x1000", "0x100f", "0x1c1f")
        lane = w.register("R") if w.pick(2) else str(w.pick(32))
        mode = w.one("up", "down", "bfly", "idx")
        forms += [f"shfl.sync.{mode}.b32 {r}{also}, {w.register('R')}, {lane}, {clamp}, {given};"] * 4
    line = forms[w.pick(len(forms))]
    # Few values, so that some lanes agree.
    first = (
        [f"and.b32 {line.split()[2].rstrip(',')}, {line.split()[2].rstrip(',')}, 3;"]
        if "match" in line and "b32" in line
        else []
    )
    return step(*first, line)


def warp(w: Writer, whole: bool) -> Step:
    found = collective(w, "%mask", whole)
    return step("bar.warp.sync %mask;", *found.lines)


def group(w: Writer, bits: int, vector: int) -> str:
    names = [w.register(LETTER[bits]) for _ in range(vector)]
    return names[0] if vector == 1 else "{" + ", ".join(names) + "}"


def store_swap(w: Writer) -> tuple[str, int, int]:
    """This thread's part of what others read: the store, and its bits and elements."""
    bits, vector, _ = widths(w, SWAP)
    suffix = "" if vector == 1 else f".v{vector}"
    return f"st.shared{suffix}.b{bits} [%swap], {group(w, bits, vector)};", bits, vector


def other_swap(w: Writer, threads: int, bits: int, vector: int) -> list[str]:
    """Another thread's part, each thread a different one."""
    return [
        f"add.u32 %t0, %tx, {w.pick(threads)};",
        f"rem.u32 %t0, %t0, {threads};",
        f"mad.lo.u32 %t0, %t0, {SWAP}, %swaps;",
        move(w, "ld.shared", bits, "%t0", True, vector),
    ]


def exchange(w: Writer, threads: int) -> Step:
    """Through shared memory, behind a barrier."""
    store, bits, vector = store_swap(w)
    barrier = w.one(
        "bar.sync 0;", f"bar.sync {1 + w.pick(8)};", f"barrier.sync {1 + w.pick(8)};", "barrier.sync.aligned 9;"
    )
    return step("bar.sync 0;", store, barrier, *other_swap(w, threads, bits, vector), "bar.sync 0;")


def barrier_reduction(w: Writer) -> Step:
    what = w.pick(3)
    given = w.one("", "!") + w.register("P")
    if what == 0:
        return step(f"bar.red.popc.u32 {w.register('R')}, {w.pick(4)}, {given};")
    return step(f"bar.red.{('and', 'or')[what - 1]}.pred {w.register('P')}, {w.pick(4)}, {given};")
