"""Random valid PTX whose every answer is certain: a program from a seed, as a tree that can be made smaller."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import fuzz_async
import fuzz_matrix
import fuzz_steps
import memory_forms
from forms import HEADER
from fuzz_async import BULK
from fuzz_steps import BARRIERS, CELLS, ROW, SLOT, SWAP, step
from fuzz_writer import COUNT, Writer
from program_tree import Block, Node, Step, text

THREADS = (1, 7, 13, 32, 33, 45, 64, 64, 96, 100, 128)
PROGRAMS = (1, 1, 2, 3)
POOL = 65536
CELL_BYTES = 8 * len(CELLS)
REGISTERS = [
    ".reg .pred %p<4>, %q, %l<3>;",
    ".reg .b16 %h<6>, %x<2>;",
    ".reg .b32 %r<12>, %t<4>, %m<12>, %c<4>, %tx, %mask, %slot, %swap, %swaps, %cells, %bar, %local;",
    ".reg .b64 %d<6>, %w<12>, %v<16>, %out, %row, %first, %bulk, %mine;",
]


@dataclass(frozen=True)
class FuzzProgram:
    """A kernel `k` of two pointers: POOL bytes of input, and the answer, which begins as `start`."""

    seed: int
    tree: Block
    threads: int
    programs: int
    input: str
    start: str

    @property
    def ptx(self) -> str:
        return "\n".join(text(self.tree)) + "\n"

    @property
    def head_bytes(self) -> int:
        """What stands in the answer before the threads' lines."""
        return CELL_BYTES + self.programs * (BULK + CELL_BYTES)

    @property
    def answer_bytes(self) -> int:
        return self.head_bytes + self.threads * self.programs * ROW

    def first(self) -> bytes:
        return pool(self.start)[: self.head_bytes].ljust(self.answer_bytes, b"\0")


@functools.cache
def pool(name: str) -> bytes:
    return memory_forms.data(name)


class Composer(Writer):
    """Composes the body of one program."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.threads = THREADS[self.pick(len(THREADS))]
        self.programs = PROGRAMS[self.pick(len(PROGRAMS))]
        self.whole = self.threads % 32 == 0
        self.labels = 0
        self.barriers: list[bool] = []  # of each mbarrier: whether the prologue makes it
        self.functions: list[str] = []

    def label(self) -> int:
        self.labels += 1
        return self.labels

    def barrier(self, made_first: bool) -> int:
        self.barriers.append(made_first)
        return len(self.barriers) - 1

    def thread_step(self, function: bool) -> Node:
        """What each thread does for itself, wherever it is."""
        makers = [fuzz_steps.local, fuzz_steps.table, fuzz_steps.carries, fuzz_steps.division]
        if not function:
            makers += [
                fuzz_steps.slot, fuzz_steps.slot, fuzz_steps.slot_atomic, fuzz_steps.slot_atomic, fuzz_steps.own_input,
                fuzz_steps.cells, fuzz_steps.cells, fuzz_async.copy,
            ]  # fmt: skip
            if self.functions and self.pick(6) == 0:
                return self.call()
        return makers[self.pick(len(makers))](self)

    def program_step(self) -> Node:
        """What all threads of a program do together."""
        kinds = ["warp"] * 4 + ["exchange", "reduction", "mbarrier", "bulk load", "bulk store"]
        if self.whole:
            kinds += ["mma"] * 3 + ["ldmatrix", "stmatrix", "movmatrix"]
        kind = kinds[self.pick(len(kinds))]
        if len(self.barriers) == BARRIERS and kind in ("mbarrier", "bulk load"):
            kind = "exchange"
        if kind == "warp":
            return fuzz_steps.warp(self, self.whole)
        if kind == "exchange":
            return fuzz_steps.exchange(self, self.threads)
        if kind == "reduction":
            return fuzz_steps.barrier_reduction(self)
        if kind == "mbarrier":
            return fuzz_async.mbarrier_exchange(self, self.threads, self.barrier(True), self.label())
        if kind == "bulk load":
            return fuzz_async.bulk_load(self, self.threads, self.barrier(False), self.label())
        if kind == "bulk store":
            return fuzz_async.bulk_store(self, self.threads)
        makers = {
            "mma": fuzz_matrix.mma,
            "ldmatrix": fuzz_matrix.shared_matrix,
            "stmatrix": fuzz_matrix.store_matrix,
            "movmatrix": fuzz_matrix.transpose,
        }
        return makers[kind](self)

    def branch(self, depth: int, loops: int, function: bool) -> Block:
        label = self.label()
        condition = self.register("P")
        if depth == 0 and not function and self.pick(3) == 0:
            # Only the threads that the ballot names come here, and all of them.
            lines = (
                "bar.warp.sync %mask;",
                f"vote.sync.ballot.b32 %t3, {condition}, %mask;",
                f"@!{condition} bra E{label};",
            )
            inside = [*self.body(1 + self.pick(3), 3, 2, function), fuzz_steps.collective(self, "%t3", False)]
            return Block((lines, (f"E{label}:", "bar.warp.sync %mask;")), (tuple(inside),))
        first = self.body(2 + self.pick(5), depth + 1, loops, function)
        opening = f"@{self.one('', '!')}{condition} bra E{label};"
        if self.pick(2):
            return Block(((opening,), (f"E{label}:",)), (first,))
        second = self.body(2 + self.pick(5), depth + 1, loops, function)
        return Block(((opening,), (f"bra F{label};", f"E{label}:"), (f"F{label}:",)), (first, second))

    def loop(self, depth: int, loops: int, function: bool) -> Block:
        """As many rounds as the thread's own number says, or fewer."""
        label, counter, condition = self.label(), f"%c{loops}", f"%l{loops}"
        opening = (f"and.b32 {counter}, {self.register('R')}, {(1, 3, 7)[self.pick(3)]};", f"L{label}:")
        inside = self.body(2 + self.pick(5), depth + 1, loops + 1, function)
        test = f"setp.ge.s32 {condition}, {counter}, 0;"
        if self.pick(3) == 0:
            test = f"setp.ge.and.s32 {condition}, {counter}, 0, {self.one('', '!')}{self.register('P')};"
        closing = (f"sub.s32 {counter}, {counter}, 1;", test, f"@{condition} bra L{label};")
        return Block((opening, closing), (inside,))

    def switch(self, depth: int, loops: int, function: bool) -> Block:
        label, ways = self.label(), 2 + self.pick(3)
        names = [f"S{label}_{i}" for i in range(ways)]
        opening = (
            f"T{label}: .branchtargets {', '.join(names)};",
            f"and.b32 %t0, {self.register('R')}, 7;",
            f"min.u32 %t0, %t0, {ways - 1};",
            f"brx.idx %t0, T{label};",
            f"{names[0]}:",
        )
        between = [(f"bra F{label};", f"{name}:") for name in names[1:]]
        parts = tuple(self.body(1 + self.pick(3), depth + 1, loops, function) for _ in names)
        return Block((opening, *between, (f"F{label}:",)), parts)

    def body(self, length: int, depth: int, loops: int, function: bool) -> tuple[Node, ...]:
        found: list[Node] = []
        for _ in range(length):
            kind = self.pick(32)
            if kind < 2 and depth < 3:
                found.append(self.branch(depth, loops, function))
            elif kind == 2 and loops < 2:
                found.append(self.loop(depth, loops, function))
            elif kind == 3 and depth < 2:
                found.append(self.switch(depth, loops, function))
            elif kind < 9:
                found.append(self.thread_step(function))
            elif kind < 13 and depth == 0 and not function:
                found.append(self.program_step())
            else:
                found.append(self.instruction())
        return tuple(found)

    def call(self) -> Step:
        name = self.functions[self.pick(len(self.functions))]
        kinds = ("b32", "b32", "b64", "b16")
        lines = ["{", *(f".param .{kind} a{i};" for i, kind in enumerate(kinds)), ".param .b64 o0;"]
        for i, kind in enumerate(kinds):
            lines.append(f"st.param.{kind} [a{i}], {self.register({'b32': 'R', 'b64': 'D', 'b16': 'H'}[kind])};")
        lines += [
            f"call (o0), {name}, (a0, a1, a2, a3);",
            f"ld.param.b64 {self.register('D')}, [o0];",
            "}",
        ]
        return step(*lines)

    def function(self, name: str) -> tuple[tuple[str, ...], tuple[Node, ...], tuple[str, ...]]:
        opening = [
            f".func (.param .b64 o0) {name}(.param .b32 a0, .param .b32 a1, .param .b64 a2, .param .b16 a3)",
            "{",
            *REGISTERS,
            ".local .align 16 .b8 stack[64];",
            "ld.param.b32 %r0, [a0];",
            "ld.param.b32 %r1, [a1];",
            "ld.param.b64 %d0, [a2];",
            "ld.param.b16 %h0, [a3];",
            *(f"mad.lo.u32 %r{i}, %r{i - 1}, {2 * self.pick(1 << 20) + 1}, %r{i - 2};" for i in range(2, COUNT["R"])),
            *(f"mad.wide.u32 %d{i}, %r{i}, %r{i + 1}, %d{i - 1};" for i in range(1, COUNT["D"])),
            *(f"cvt.u16.u32 %h{i}, %r{i + 3};" for i in range(1, COUNT["H"])),
            *(f"setp.gt.s32 %p{i}, %r{i}, %r{i + 4};" for i in range(COUNT["P"])),
            "mov.u32 %local, stack;",
            *(f"st.local.v2.b64 [%local+{16 * i}], {{%d{i}, %d{i + 1}}};" for i in range(4)),
        ]
        body = self.body(4 + self.pick(6), 1, 1, True)
        closing = [
            *(f"@%p{i} xor.b32 %r{i}, %r{i}, %r{i + 5};" for i in range(COUNT["P"])),
            *(f"xor.b32 %r0, %r0, %r{i};" for i in range(1, COUNT["R"], 3)),
            *(f"add.u64 %d0, %d0, %d{i};" for i in range(1, COUNT["D"], 2)),
            "mad.wide.u32 %d0, %r0, 0x9e3779b1, %d0;",
            "st.param.b64 [o0], %d0;",
            "ret;",
            "}",
        ]
        return tuple(opening), body, tuple(closing)

    def prologue(self) -> list[str]:
        threads = self.threads
        lines = [
            ".visible .entry k(.param .u64 p0, .param .u64 p1)",
            *((f".reqntid {threads}",) if self.pick(2) else ()),
            "{",
            *REGISTERS,
            f".shared .align 16 .b8 slots[{SLOT * threads}];",
            f".shared .align 128 .b8 swap[{SWAP * threads}];",
            f".shared .align 8 .b8 cells[{CELL_BYTES}];",
            f".shared .align 8 .b64 bars[{BARRIERS}];",
            ".local .align 16 .b8 stack[64];",
            "mov.u32 %tx, %tid.x;",
            "ld.param.u64 %first, [p0];",
            "ld.param.u64 %out, [p1];",
            "mov.u32 %t0, %ctaid.x;",
            f"mad.lo.u32 %t1, %t0, {threads}, %tx;",
            f"mad.wide.u32 %row, %t1, {ROW}, %first;",
            f"add.u64 %mine, %out, {CELL_BYTES + self.programs * (BULK + CELL_BYTES)};",
            f"mad.wide.u32 %mine, %t1, {ROW}, %mine;",
            f"add.u64 %bulk, %out, {CELL_BYTES};",
            f"mad.wide.u32 %bulk, %t0, {BULK}, %bulk;",
            "mov.u32 %slot, slots;",
            f"mad.lo.u32 %slot, %tx, {SLOT}, %slot;",
            "mov.u32 %swaps, swap;",
            f"mad.lo.u32 %swap, %tx, {SWAP}, %swaps;",
            "mov.u32 %cells, cells;",
            "mov.u32 %bar, bars;",
            "mov.u32 %local, stack;",
            "and.b32 %t0, %tx, -32;",
            f"sub.u32 %t0, {threads}, %t0;",
            "min.u32 %t0, %t0, 32;",
            "sub.u32 %t0, 32, %t0;",
            "shr.u32 %mask, -1, %t0;",
        ]
        lines += [f"ld.global.b32 %r{i}, [%row+{4 * i}];" for i in range(COUNT["R"])]
        lines += [f"ld.global.b64 %d{i}, [%row+{48 + 8 * i}];" for i in range(COUNT["D"])]
        lines += [f"ld.global.b16 %h{i}, [%row+{96 + 2 * i}];" for i in range(COUNT["H"])]
        lines += [f"setp.gt.s32 %p{i}, %r{i}, %r{i + 4};" for i in range(COUNT["P"])]
        lines += [f"st.shared.v4.b32 [%slot+{16 * i}], {{%r{i}, %r{i + 1}, %r{i + 2}, %r{i + 3}}};" for i in range(2)]
        lines += ["st.shared.v2.b64 [%swap], {%d0, %d1};"]
        lines += [f"st.local.v2.b64 [%local+{16 * i}], {{%d{i}, %d{i + 1}}};" for i in range(4)]
        lines += ["setp.ne.u32 %q, %tx, 0;", "@%q bra MADE;"]
        lines += [
            f"mov.b64 %w0, {self.random.next() >> 1};\nst.shared.b64 [%cells+{8 * i}], %w0;" for i in range(len(CELLS))
        ]
        lines += [
            f"mbarrier.init.shared.b64 [%bar+{8 * i}], {threads};" for i, first in enumerate(self.barriers) if first
        ]
        return [*lines, "fence.proxy.async;", "MADE:", "bar.sync 0;"]

    def epilogue(self) -> list[str]:
        lines = [f"st.global.b32 [%mine+{4 * i}], %r{i};" for i in range(COUNT["R"])]
        lines += [f"st.global.b64 [%mine+{48 + 8 * i}], %d{i};" for i in range(COUNT["D"])]
        lines += [f"st.global.b16 [%mine+{96 + 2 * i}], %h{i};" for i in range(COUNT["H"])]
        lines += ["mov.b32 %t0, 0;", *(f"@%p{i} or.b32 %t0, %t0, {1 << i};" for i in range(COUNT["P"]))]
        lines += ["st.global.b32 [%mine+108], %t0;", "bar.sync 0;", "setp.ne.u32 %q, %tx, 0;", "@%q bra DONE;"]
        lines += ["mov.u32 %t0, %ctaid.x;", f"add.u64 %w0, %out, {CELL_BYTES + self.programs * BULK};"]
        lines += [f"mad.wide.u32 %w0, %t0, {CELL_BYTES}, %w0;"]
        for i in range(len(CELLS)):
            lines += [f"ld.shared.b64 %w1, [%cells+{8 * i}];", f"st.global.b64 [%w0+{8 * i}], %w1;"]
        return [*lines, "DONE:", "ret;", "}"]

    def module(self, length: int) -> Block:
        words = ", ".join(str(self.random.next() >> 32) for _ in range(16))
        lines: list[tuple[str, ...]] = []
        parts: list[tuple[Node, ...]] = []
        before = [
            HEADER,
            f".const .align 8 .b32 constants[16] = {{{words}}};",
            f".global .align 8 .b32 numbers[16] = {{{', '.join(str(self.random.next() >> 32) for _ in range(16))}}};",
        ]
        for number in range((0, 0, 1, 2)[self.pick(4)]):
            opening, body, closing = self.function(f"f{number}")
            lines.append((*before, *opening))
            parts.append(body)
            before = list(closing)
            self.functions.append(f"f{number}")
        main = self.body(length, 0, 0, False)
        lines += [(*before, *self.prologue()), tuple(self.epilogue())]
        return Block(tuple(lines), (*parts, main))


def fuzz_program(seed: int) -> FuzzProgram:
    composer = Composer(seed)
    tree = composer.module(24 + composer.pick(40))
    kind = seed % 8
    return FuzzProgram(seed, tree, composer.threads, composer.programs, f"mixed:{POOL}.{kind}", f"bytes:2048.{kind}")
