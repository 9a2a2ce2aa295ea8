"""Programs for the forms of Triton's own tests that no recorded program, compiled kernel or case of forms.py executes,
each with the answer that PTX's definition gives, from NumPy."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import memory_forms
import ml_dtypes
import numpy as np
from memory_forms import Program

Array = np.ndarray[Any, Any]
LANES = 32
DTYPES: dict[str, Any] = {
    **{
        f"{kind}{bits}": f"<{letter}{bits // 8}"
        for bits in (8, 16, 32, 64)
        for kind, letter in zip("bus", "uui", strict=True)
    },
    "f16": "<f2",
    "bf16": ml_dtypes.bfloat16,
    "f32": "<f4",
    "f64": "<f8",
    "f16x2": "<f2",
    "bf16x2": ml_dtypes.bfloat16,
    "e4m3": ml_dtypes.float8_e4m3fn,
    "e5m2": ml_dtypes.float8_e5m2,
    "tf32": "<f4",
}
BITS = {"f16x2": 32, "bf16x2": 32, "bf16": 16}


@dataclass
class Exact:
    """A program and the whole of its answer."""

    program: Program
    answer: bytes


def bits(kind: str) -> int:
    return BITS.get(kind) or int(re.findall(r"\d+", kind)[0])


def register(kind: str) -> str:
    return {8: "%h", 16: "%h", 32: "%r", 64: "%d"}[bits(kind)]


def pool(kind: str, seed: int, size: int = 4096) -> str:
    name = kind.removesuffix("x2")
    small = {"f16", "bf16", "f32", "f64", "e4m3", "e5m2"}
    return f"{'small_' + name if name in small else 'small_f32' if name == 'tf32' else 'bytes'}:{size}.{seed}"


def values(kind: str, seed: int, count: int) -> Array:
    return np.frombuffer(memory_forms.data(pool(kind, seed)), DTYPES[kind])[:count]


def text(body: str, inputs: int, threads: int = LANES, declarations: str = "", functions: str = "") -> str:
    """`body` finds a pointer to this thread's 16 bytes of each input in %d1 …, and of the answer in %d9."""
    parameters = ", ".join(f".param .u64 p{i}" for i in range(inputs + 1))
    begin = [
        line
        for i in range(inputs + 1)
        for line in (
            f"ld.param.u64 %d{'9' if i == inputs else i + 1}, [p{i}];",
            f"mad.wide.u32 %d{'9' if i == inputs else i + 1}, %r0, 16, %d{'9' if i == inputs else i + 1};",
        )
    ]
    lines = [".version 8.8", ".target sm_90a", ".address_size 64", functions, f".visible .entry k({parameters})"]
    lines += [f".reqntid {threads}", "{", ".reg .pred %p<16>; .reg .b16 %h<64>; .reg .b32 %r<300>; .reg .b64 %d<64>;"]
    return "\n".join([*lines, declarations, "mov.u32 %r0, %tid.x;", *begin, body, "ret;", "}", ""])


def rows(kind: str, seed: int) -> Array:
    """What each thread finds at its 16 bytes of an input."""
    raw = memory_forms.data(pool(kind, seed))[: 16 * LANES]
    return np.frombuffer(raw, DTYPES[kind]).reshape(LANES, -1)


def answered(*columns: Array) -> bytes:
    """Each thread's results one after the other, each in 8 bytes."""
    out = np.zeros((LANES, 16), np.uint8)
    for i, column in enumerate(columns):
        raw = np.ascontiguousarray(column.reshape(LANES, -1)).view(np.uint8).reshape(LANES, -1)
        out[:, 8 * i : 8 * i + raw.shape[1]] = raw
    return out.tobytes()


def exact(name: str, body: str, kinds: list[str], answer: bytes, **more: Any) -> Exact:
    inputs = [pool(kind, 40 + i) for i, kind in enumerate(kinds)]
    program = Program(name, text(body, len(kinds), **more), inputs, len(answer), more.get("threads", LANES))
    return Exact(program, answer)


def word(kind: str) -> str:
    return f"b{bits(kind)}"


def elementwise(form: str, kinds: list[str], result: str, reference: Callable[..., Array], first: str = "") -> Exact:
    names = [f"{register(kind)}{20 + i}" for i, kind in enumerate(kinds)]
    body = [f"ld.global.{word(k)} {n}, [%d{i + 1}];" for i, (k, n) in enumerate(zip(kinds, names, strict=True))]
    body += [
        first,
        f"{form} {register(result)}30, {', '.join(names)};",
        f"st.global.{word(result)} [%d9], {register(result)}30;",
    ]
    found = [rows(k, 40 + i)[:, : 2 if k.endswith("x2") else 1] for i, k in enumerate(kinds)]
    with np.errstate(all="ignore"):
        answer = np.asarray(reference(*found)).astype(DTYPES[result])
    return exact(form, "\n".join(body), kinds, answered(answer))


OPERATIONS: dict[str, Callable[[Array, Array], Array]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "max": np.maximum,
    "min": np.minimum,
    "and": np.bitwise_and,
    "or": np.bitwise_or,
    "xor": np.bitwise_xor,
}


def arithmetic() -> Iterator[Exact]:
    for (
        form
    ) in "add.bf16 add.bf16x2 add.f16 add.f64 mul.bf16 mul.bf16x2 mul.f16 mul.f16x2 mul.f64 sub.f16 sub.f64".split():
        operation, kind = form.split(".")
        yield elementwise(form, [kind, kind], kind, OPERATIONS[operation])
    yield elementwise("cvt.rni.ftz.s32.f32", ["f32"], "s32", np.rint)
    yield elementwise("cvt.rpi.ftz.f32.f32", ["f32"], "f32", np.ceil)
    yield elementwise("cvt.bf16.f16", ["f16"], "bf16", lambda a: a)
    yield elementwise("mov.f32", ["f32"], "f32", lambda a: a)
    # Shifts from 0 to 63: those by more than 31 give zero.
    shift = "and.b32 %r21, %r21, 63;"
    yield elementwise("shr.b32", ["b32", "b32"], "b32", lambda a, b: a.astype("<u8") >> (b & 63), shift)
    a, b = rows("b32", 40), rows("b32", 41)

    def loads(kind: str) -> str:
        vector = "%r20, %r21, %r22, %r23", "%r24, %r25, %r26, %r27"
        return "".join(f"ld.global.v4.{kind} {{{v}}}, [%d{i + 1}];\n" for i, v in enumerate(vector))

    def wide(x: Array, words: int) -> list[int]:
        return [sum(int(row[i]) << (32 * i) for i in range(words)) for row in x]

    def low(numbers: list[int], kept: int = 128) -> bytes:
        return b"".join((n % (1 << kept)).to_bytes(16, "little") for n in numbers)

    store = "st.global.v4.b32 [%d9], {%r30, %r31, %r32, %r33};"
    for sign, first in ((1, "add"), (-1, "sub")):
        steps = [f"{first}{'c' if i else ''}{'.cc' if i < 3 else ''}.u32 %r3{i}, %r2{i}, %r2{i + 4};" for i in range(4)]
        numbers = [x + sign * y for x, y in zip(wide(a, 4), wide(b, 4), strict=True)]
        yield exact(
            f"{first}.cc.u32 of 128 bits", loads("b32") + "\n".join([*steps, store]), ["b32", "b32"], low(numbers)
        )
    # a1:a0 × b0 + b3:b2:b1 with its carries.
    steps = [
        "mad.lo.cc.u32 %r30, %r20, %r24, %r25;",
        "madc.hi.cc.u32 %r31, %r20, %r24, %r26;",
        "madc.hi.u32 %r32, %r21, %r24, %r27;",
        "mad.lo.cc.u32 %r31, %r21, %r24, %r31;",
        "madc.lo.cc.u32 %r32, %r22, %r23, %r32;",
        "addc.u32 %r33, 0, 0;",
    ]
    numbers = []
    for x, y in zip(a.astype(object), b.astype(object), strict=True):
        sums, carry = [], 0
        for first, second, third, half, carries in (
            (x[0], y[0], y[1], 0, False),
            (x[0], y[0], y[2], 1, True),
            (x[1], y[0], y[3], 1, True),
            (x[1], y[0], None, 0, False),
            (x[2], x[3], None, 0, True),
        ):
            part = (int(first) * int(second)) >> (32 * half) & 0xFFFFFFFF
            added = int(third) if third is not None else sums[1 if len(sums) == 3 else 2]
            total = part + added + (carry if carries else 0)
            carry, kept = total >> 32, total & 0xFFFFFFFF
            sums = (
                [*sums, kept]
                if len(sums) < 3
                else [sums[0], kept, sums[2], 0]
                if len(sums) == 3
                else [*sums[:2], kept, carry]
            )
        numbers.append(sum(n << (32 * i) for i, n in enumerate(sums)))
    yield exact(
        "mad.lo.cc.u32 and what carries on", loads("b32") + "\n".join([*steps, store]), ["b32", "b32"], low(numbers)
    )


def predicates() -> Iterator[Exact]:
    for form, compare in (("setp.gt.f16x2", np.greater), ("setp.lt.f16x2", np.less)):
        body = (
            f"ld.global.b32 %r20, [%d1]; ld.global.b32 %r21, [%d2]; {form} %p1|%p2, %r20, %r21;\n"
            "selp.b32 %r30, 1, 0, %p1; selp.b32 %r31, 1, 0, %p2;\n"
            "st.global.b32 [%d9], %r30; st.global.b32 [%d9+8], %r31;"
        )
        found = compare(rows("f16x2", 40)[:, :2], rows("f16x2", 41)[:, :2]).astype("<u4")
        yield exact(form, body, ["f16x2", "f16x2"], answered(found[:, :1], found[:, 1:]))
    for form, kind, compare in (("setp.eq.b64", "b64", np.equal), ("setp.ne.b16", "b16", np.not_equal)):
        # Every other thread compares a value with itself.
        name = register(kind)
        body = (
            f"ld.global.{kind} {name}20, [%d1]; ld.global.{kind} {name}21, [%d2]; and.b32 %r1, %r0, 1;\n"
            f"setp.eq.u32 %p1, %r1, 0; @%p1 mov.{kind} {name}21, {name}20;\n"
            f"{form} %p2, {name}20, {name}21; selp.b32 %r30, 1, 0, %p2; st.global.b32 [%d9], %r30;"
        )
        a, b = rows(kind, 40)[:, :1], rows(kind, 41)[:, :1].copy()
        b[::2] = a[::2]
        yield exact(form, body, [kind, kind], answered(compare(a, b).astype("<u4")))
    body = (
        "and.b32 %r1, %r0, 1; setp.eq.u32 %p1, %r1, 0; setp.lt.u32 %p2, %r0, 8; or.pred %p3, %p1, %p2;\n"
        "ld.global.f64 %d20, [%d1]; ld.global.f64 %d21, [%d2]; selp.f64 %d30, %d20, %d21, %p3;\n"
        "st.global.f64 [%d9], %d30;"
    )
    lane = np.arange(LANES)[:, None]
    first = (lane % 2 == 0) | (lane < 8)
    chosen = np.where(first, rows("f64", 40)[:, :1], rows("f64", 41)[:, :1])
    yield exact("or.pred and selp.f64", body, ["f64", "f64"], answered(chosen))


def atomics(missing: list[str]) -> Iterator[Exact]:
    """Each thread has a place of its own: what it finds, and what it leaves there."""
    for form in missing:
        parts = form.split(".")
        if parts[0] not in ("atom", "red"):
            continue
        kind, name = parts[-1], register(parts[-1])
        operation = next(p for p in parts[1:] if p in OPERATIONS or p == "cas")
        old, operand, third = rows(kind, 40), rows(kind, 41), rows(kind, 42)
        width = 2 if kind.endswith("x2") else 1
        old, operand, third = old[:, :width], operand[:, :width].copy(), third[:, :width]
        begin = f"ld.global.{word(kind)} {name}20, [%d1]; ld.global.{word(kind)} {name}21, [%d2];\n"
        operands, kinds = f"{name}21", [kind, kind]
        if operation == "cas":  # it fits for every other thread
            begin += f"and.b32 %r1, %r0, 1; setp.eq.u32 %p1, %r1, 0; @%p1 mov.{kind} {name}21, {name}20;\n"
            begin += f"ld.global.{kind} {name}22, [%d3];\n"
            operand[::2] = old[::2]
            operands, kinds = f"{name}21, {name}22", [kind, kind, kind]
            left = np.where(old == operand, third, old)
        else:
            with np.errstate(all="ignore"):
                left = OPERATIONS[operation](old, operand).astype(DTYPES[kind])
        place, declarations = "[%d9]", ""
        if "shared" in parts:
            place, declarations = "[%r2]", ".shared .align 16 .b8 s[512];"
            begin += "mov.u32 %r2, s; mad.lo.u32 %r2, %r0, 16, %r2;\n"
        space = "shared" if "shared" in parts else "global"
        result = f"{name}30, " if parts[0] == "atom" else ""
        body = begin + f"st.{space}.{word(kind)} {place}, {name}20;\n{form} {result}{place}, {operands};\n"
        body += f"ld.{space}.{word(kind)} {name}31, {place}; st.global.{word(kind)} [%d9], {name}31;\n"
        if parts[0] == "atom":
            body += f"st.global.{word(kind)} [%d9+8], {name}30;"
        columns = (left, old) if parts[0] == "atom" else (left,)
        yield exact(form, body, kinds, answered(*columns), declarations=declarations)


def accesses(missing: list[str]) -> Iterator[Exact]:
    """Moves through memory: what was stored comes back, extended as the type says."""
    shared = ".shared .align 16 .b8 s[512];"
    at_shared = "mov.u32 %r2, s; mad.lo.u32 %r2, %r0, 16, %r2;\n"
    for form in missing:
        parts = form.split(".")
        if parts[0] not in ("ld", "st") or "param" in parts:
            continue
        kind, count = parts[-1], next((int(p[1:]) for p in parts if re.fullmatch(r"v\d", p)), 1)
        name = register(kind)
        space = "shared" if any(p.startswith("shared") for p in parts) else "global"
        from_place = "[%r2]" if space == "shared" else "[%d1]"
        to_place = "[%r2]" if space == "shared" else "[%d9]"

        def group(first: int, name: str = name, count: int = count) -> str:
            each = ", ".join(f"{name}{first + i}" for i in range(count))
            return f"{{{each}}}" if count > 1 else each

        vector, plain = (f".v{count}" if count > 1 else ""), f"b{bits(kind)}"
        body, declarations = "", ""
        if space == "shared":
            body, declarations = at_shared, shared
        if parts[0] == "ld":
            if space == "shared":
                body += f"ld.global{vector}.{plain} {group(20)}, [%d1]; st.shared{vector}.{plain} [%r2], {group(20)};\n"
            body += f"{form} {group(30)}, {from_place};\n"
            kept = max(bits(kind), 16)  # a byte fills its register
            body += f"st.global{vector}.b{kept} [%d9], {group(30)};"
        else:
            body += f"ld.global{vector}.{plain} {group(20)}, [%d1];\n{form} {to_place}, {group(20)};\n"
            kept = bits(kind)
            if space == "shared":
                body += f"ld.shared{vector}.{plain} {group(30)}, [%r2]; st.global{vector}.{plain} [%d9], {group(30)};"
        data = rows(kind, 40)[:, :count]
        if parts[0] == "ld" and kept != bits(kind):
            data = data.astype("<i2" if kind.startswith("s") else "<u2")
        raw = np.zeros((LANES, 16), np.uint8)
        raw[:, : data.itemsize * count] = np.ascontiguousarray(data).view(np.uint8).reshape(LANES, -1)
        yield exact(form, body, [kind], raw.tobytes(), declarations=declarations)


def ordering(missing: list[str]) -> Iterator[Exact]:
    """Fences keep what a thread has stored; an arrival lets the other warp go on behind what was stored before it."""
    data = answered(rows("b32", 40)[:, :1])
    for form in (form for form in missing if form.startswith("fence.")):
        body = f"ld.global.b32 %r20, [%d1]; st.global.b32 [%d9], %r20; {form}; ld.global.b32 %r21, [%d9];\n"
        yield exact(
            form,
            body + "st.global.b32 [%d9+8], %r21;",
            ["b32"],
            answered(rows("b32", 40)[:, :1], rows("b32", 40)[:, :1]),
        )
    body = (
        "mov.u32 %r2, s; and.b32 %r3, %r0, 31; mad.lo.u32 %r2, %r3, 4, %r2; setp.lt.u32 %p1, %r0, 32; @%p1 bra $wait;\n"
        "sub.u32 %r4, %r0, 32; ld.param.u64 %d1, [p0]; mad.wide.u32 %d1, %r4, 16, %d1; ld.global.b32 %r20, [%d1];\n"
        "st.shared.b32 [%r2], %r20; bar.arrive 1, 64; bra $end;\n"
        "$wait: bar.sync 1, 64; ld.shared.b32 %r21, [%r2]; st.global.b32 [%d9], %r21;\n$end:"
    )
    yield exact("bar.arrive", body, ["b32"], data, threads=64, declarations=".shared .align 16 .b8 s[128];")
    body = (
        "mov.u32 %r2, s; mov.u32 %r3, b; setp.ne.u32 %p1, %r0, 0; @%p1 bra $wait;\n"
        "mbarrier.init.shared.b64 [%r3], 1; fence.proxy.async; mbarrier.arrive.expect_tx.shared.b64 %d20, [%r3], 512;\n"
        "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%r2], [%d1], 512, [%r3];\n"
        "$wait: bar.warp.sync -1;\n"
        "$again: mbarrier.try_wait.parity.shared.b64 %p2, [%r3], 0; @!%p2 bra $again;\n"
        "mad.lo.u32 %r2, %r0, 16, %r2; ld.shared.b32 %r21, [%r2]; st.global.b32 [%d9], %r21;"
    )
    declarations = ".shared .align 128 .b8 s[512]; .shared .align 8 .b64 b;"
    yield exact("mbarrier.arrive.expect_tx.shared", body, ["b32"], data, declarations=declarations)


def calls() -> Iterator[Exact]:
    """A function's parameters by every width: it gives back what it found, two numbers added."""
    a = rows("b32", 40)
    function = (
        ".func (.param .align 16 .b8 r[16]) f(.param .align 16 .b8 a[16], .param .align 8 .b8 b[8])\n{\n"
        ".reg .b16 %h<4>; .reg .b32 %r<16>;\nld.param.v4.b32 {%r1, %r2, %r3, %r4}, [a];\n"
        "ld.param.v2.b32 {%r5, %r6}, [b]; ld.param.s32 %r7, [a+4]; ld.param.u32 %r8, [b+4];\n"
        "ld.param.b16 %h1, [a+2]; ld.param.b8 %h2, [a+1]; cvt.u32.u16 %r9, %h1; cvt.u32.u16 %r10, %h2;\n"
        "add.u32 %r1, %r1, %r5; add.u32 %r2, %r7, %r8; add.u32 %r3, %r3, %r9; add.u32 %r4, %r4, %r10;\n"
        "st.param.v4.b32 [r], {%r1, %r2, %r3, %r4};\nret;\n}\n"
    )
    body = (
        "ld.global.v4.b32 {%r20, %r21, %r22, %r23}, [%d1];\n{\n.param .align 16 .b8 x[16]; .param .align 8 .b8 y[8];\n"
        ".param .align 16 .b8 z[16];\nst.param.v4.b32 [x], {%r20, %r21, %r22, %r23};\n"
        "st.param.v2.b32 [y], {%r22, %r23};\n"
        "call.uni (z), f, (x, y);\nld.param.v4.b32 {%r30, %r31, %r32, %r33}, [z];\n}\n"
        "st.global.v4.b32 [%d9], {%r30, %r31, %r32, %r33};"
    )
    answer = a + np.stack([a[:, 2], a[:, 3], a[:, 0] >> 16, (a[:, 0] >> 8) & 255], axis=1)
    yield exact("call.uni with parameters", body, ["b32"], answer.astype("<u4").tobytes(), functions=function)
    # The generic address of a parameter.
    body = "mov.b64 %d20, p0; cvta.param.u64 %d21, %d20; ld.b64 %d22, [%d21]; ld.param.u64 %d23, [p0];\n"
    body += "sub.s64 %d24, %d22, %d23; add.s64 %d24, %d24, 5;\n"
    body += "st.global.b64 [%d9], %d24; st.global.b64 [%d9+8], %d24;"
    five = np.full((LANES, 1), 5, "<u8")
    yield exact("cvta.param.u64", body, ["b32"], answered(five, five))


def products(missing: list[str]) -> Iterator[Exact]:
    """wgmma of tiles without a swizzle, K in rows of 16 bytes: sums of small whole numbers are exact in any order."""
    for form in missing:
        match = re.fullmatch(r"wgmma\.mma_async\.sync\.aligned\.m64n(\d+)k\d+\.(\w+)\.(\w+)\.(\w+)", form)
        if not match:
            continue
        n, (d, a, b) = int(match[1]), match.groups()[1:]
        size = 32 * (64 + n)  # a row of K is 32 bytes
        raw = np.frombuffer(memory_forms.data(pool(a if a in DTYPES else "b8", 40, size)), np.uint8)

        def tile(first: int, count: int, kind: str, raw: Any = raw) -> Array:
            """Groups of 8 rows in 256 bytes, their two halves of K in 128."""
            part = raw[32 * first : 32 * (first + count)].reshape(count // 8, 2, 8, 16).transpose(0, 2, 1, 3)
            return np.ascontiguousarray(part).reshape(count, 32).view(DTYPES["s8" if kind == "s8" else kind])

        left, right = tile(0, 64, a).astype(np.float64), tile(64, n, b).astype(np.float64)
        sums = (left @ right.T).astype({"f16": "<f2", "f32": "<f4", "s32": "<i4"}[d])
        each = 2 if d == "f16" else 1
        registers = n // 2 // each
        answer = np.zeros((128, registers, each), sums.dtype)
        for thread in range(128):
            for i in range(n // 2):
                row = 16 * (thread // 32) + thread % 32 // 4 + 8 * (i // 2 % 2)
                answer[thread, i // each, i % each] = sums[row, 8 * (i // 4) + 2 * (thread % 4) + i % 2]
        high = hex((128 >> 4) << 16 | (256 >> 4) << 32)
        tail = "" if d == "s32" else ", 1, 1, 0, 0" if a in ("f16", "bf16") else ", 1, 1"
        group = ", ".join(f"%r{100 + i}" for i in range(registers))
        body = [
            "mov.u32 %r2, s; ld.param.u64 %d1, [p0]; ld.param.u64 %d9, [p1]; mov.u32 %r3, %r0;",
            f"$copy: setp.ge.u32 %p1, %r3, {size // 16}; @%p1 bra $copied; mad.wide.u32 %d3, %r3, 16, %d1;",
            "ld.global.v4.b32 {%r4, %r5, %r6, %r7}, [%d3]; mad.lo.u32 %r8, %r3, 16, %r2;",
            "st.shared.v4.b32 [%r8], {%r4, %r5, %r6, %r7}; add.u32 %r3, %r3, 128; bra $copy;",
            "$copied: fence.proxy.async; bar.sync 0; shr.u32 %r3, %r2, 4; cvt.u64.u32 %d4, %r3;",
            f"or.b64 %d4, %d4, {high}; add.s64 %d5, %d4, {64 * 32 // 16};",
            *[f"mov.b32 %r{100 + i}, 7;" for i in range(registers)],
            "setp.ne.u32 %p2, 0, 0; wgmma.fence.sync.aligned;",
            f"{form} {{{group}}}, %d4, %d5, %p2{tail};",
            "wgmma.commit_group.sync.aligned; wgmma.wait_group.sync.aligned 0;",
            f"mad.wide.u32 %d9, %r0, {4 * registers}, %d9;",
            *[f"st.global.b32 [%d9+{4 * i}], %r{100 + i};" for i in range(registers)],
        ]
        source = text("\n".join(body), 1, 128, f".shared .align 1024 .b8 s[{size}];")
        inputs = [pool(a if a in DTYPES else "b8", 40, size)]
        yield Exact(Program(form, source, inputs, answer.nbytes, 128), answer.tobytes())


def programs(missing: list[str]) -> list[Exact]:
    """`missing`: forms that only these execute."""
    wanted = sorted(missing)
    parts = (arithmetic(), predicates(), atomics(wanted), accesses(wanted), ordering(wanted), calls(), products(wanted))
    return [each for part in parts for each in part]
