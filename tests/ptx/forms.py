"""Small PTX kernels, one per instruction form, with operands that go wrong first.

Each case is one kernel of 256 threads: thread t loads element t of its operands, executes one instruction (or a short
sequence that ends in one result), and stores the result. Operands come from pools that many cases share.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

THREADS = 256
MASK64 = (1 << 64) - 1

# Where a register of the type lives, and how it is loaded and stored.
REGISTER = {8: "b16", 16: "b16", 32: "b32", 64: "b64"}
PREFIX = {"b16": "%h", "b32": "%r", "b64": "%d"}
BITS = {
    "u8": 8,
    "s8": 8,
    "b8": 8,
    "u16": 16,
    "s16": 16,
    "b16": 16,
    "f16": 16,
    "bf16": 16,
    "u32": 32,
    "s32": 32,
    "b32": 32,
    "f32": 32,
    "f16x2": 32,
    "bf16x2": 32,
    "u16x2": 32,
    "s16x2": 32,
    "tf32": 32,
    "u64": 64,
    "s64": 64,
    "b64": 64,
    "f64": 64,
    "e4m3x2": 16,
    "e5m2x2": 16,
    "nan_f32": 32,
    "nan_f64": 64,
    "nan_f16": 16,
    "nan_bf16": 16,
}
FLOATS = {"f16": (5, 10), "bf16": (8, 7), "f32": (8, 23), "f64": (11, 52)}


class Random:
    """splitmix64."""

    def __init__(self, seed: int) -> None:
        self.state = seed

    def next(self) -> int:
        self.state = (self.state + 0x9E3779B97F4A7C15) & MASK64
        z = self.state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK64
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK64
        return z ^ (z >> 31)


def float_edges(kind: str) -> list[int]:
    exponent, mantissa = FLOATS[kind]
    bias = (1 << (exponent - 1)) - 1
    lowest, one, inf = 1 << mantissa, bias << mantissa, ((1 << exponent) - 1) << mantissa
    base = [
        0,
        1,
        2,
        lowest - 1,
        lowest,
        lowest + 1,
        one,
        one + 1,
        one - 1,
        one + lowest,
        inf - 1,
        inf,
        inf + 1,
        inf | lowest >> 1,
        one + (lowest >> 1),
        one - lowest,
        3 * lowest,
    ]
    sign = 1 << (exponent + mantissa)
    return base + [b | sign for b in base]


def float_value(kind: str, random: Random) -> int:
    exponent, mantissa = FLOATS[kind]
    r = random.next()
    if r % 4 == 0:
        edges = float_edges(kind)
        return edges[(r >> 2) % len(edges)]
    if r % 4 == 1:
        return (r >> 2) & ((1 << (1 + exponent + mantissa)) - 1)
    bias = (1 << (exponent - 1)) - 1
    e = max(1, min(bias - 10 + (r >> 2) % 21, (1 << exponent) - 2))
    m = random.next() & ((1 << mantissa) - 1)
    if r >> 60 & 3 == 0:
        m &= ~((1 << (mantissa // 2)) - 1)
    return ((r >> 63) << (exponent + mantissa)) | e << mantissa | m


def tame_value(kind: str, random: Random) -> int:
    """Between 2^-4 and 2, either sign: for sums whose order is the hardware's own."""
    exponent, mantissa = FLOATS[kind]
    r = random.next()
    e = (1 << (exponent - 1)) - 1 - (r >> 1) % 5
    return (r & 1) << (exponent + mantissa) | e << mantissa | ((r >> 8) & ((1 << mantissa) - 1))


def integer_value(bits: int, random: Random) -> int:
    r = random.next()
    top = 1 << (bits - 1)
    edges = [0, 1, 2, top - 1, top, top + 1, 2 * top - 1, 2 * top - 2, 0x55 & (2 * top - 1), 31, 32, 33]
    if r % 4 == 0:
        return edges[(r >> 2) % len(edges)] & (2 * top - 1)
    if r % 4 == 1:
        return (r >> 2) % 64 & (2 * top - 1)
    return random.next() & (2 * top - 1)


def pool(name: str) -> bytes:
    """The operands of pool KIND.SEED: THREADS elements, or more where KIND says TAME*N."""
    kind, seed = name.split(".")
    random = Random(sum(ord(c) << (5 * i) for i, c in enumerate(name)) + int(seed))
    out = bytearray()
    if kind.startswith("mma_"):  # registers of a fragment: eight per thread
        element = kind[4:]
        for _ in range(8 * THREADS):
            if element in ("f16", "bf16"):
                word = tame_value(element, random) | tame_value(element, random) << 16
            elif element in ("f32", "tf32"):
                word = tame_value("f32", random)
            elif element == "f64":
                out += tame_value("f64", random).to_bytes(8, "little")
                continue
            elif element == "byte_float":
                word = 0
                for i in range(4):
                    word |= (random.next() % 0x40 | random.next() % 2 << 7) << (8 * i)
            else:
                word = random.next() & 0xFFFFFFFF
            out += word.to_bytes(4, "little")
        return bytes(out)
    for _ in range(THREADS):
        bits = BITS[kind]
        if kind in FLOATS:
            value = float_value(kind, random)
        elif kind.startswith("nan_"):  # two NaNs of three values
            exponent, mantissa = FLOATS[kind[4:]]
            value = random.next() & ((1 << bits) - 1)
            if random.next() % 3:
                value |= ((1 << exponent) - 1) << mantissa | 1
        elif kind in ("f16x2", "bf16x2"):
            value = float_value(kind[:-2], random) | float_value(kind[:-2], random) << 16
        elif kind == "tf32":
            value = float_value("f32", random)
        elif kind in ("u16x2", "s16x2"):
            value = integer_value(16, random) | integer_value(16, random) << 16
        elif kind in ("e4m3x2", "e5m2x2"):
            value = random.next() & 0xFFFF
        else:
            value = integer_value(bits, random)
        out += value.to_bytes(max(bits, 16) // 8, "little")
    return bytes(out)


@dataclass
class Case:
    """`check`: exact, or how far an answer may be from the hardware's."""

    name: str
    ptx: str
    inputs: list[str]
    result_bytes: int  # of one thread
    check: dict[str, float] = field(default_factory=dict)
    element: str = "u32"  # the results' type, for inexact checks


HEADER = ".version 8.5\n.target sm_90a\n.address_size 64\n"


def kernel(inputs: list[tuple[str, int]], body: list[str], stores: list[tuple[str, str]]) -> str:
    """`inputs`: register and bits of one load per input; `stores`: type and register of each result."""
    parameters = ", ".join(f".param .u64 p{i}" for i in range(len(inputs) + 1))
    lines = [
        HEADER + f".visible .entry k({parameters})\n{{",
        ".reg .pred %p<8>;",
        ".reg .b16 %h<16>;",
        ".reg .b32 %r<64>;",
        ".reg .b64 %d<64>;",
        ".reg .b32 %t;",
        ".reg .b64 %a;",
        "mov.u32 %t, %tid.x;",
    ]
    for i, (register, bits) in enumerate(inputs):
        lines += [
            f"ld.param.u64 %a, [p{i}];",
            f"mad.wide.u32 %a, %t, {bits // 8}, %a;",
            f"ld.global.b{bits} {register}, [%a];",
        ]
    lines += body
    size = sum(int(kind[1:]) // 8 for kind, _ in stores)
    lines += [f"ld.param.u64 %a, [p{len(inputs)}];", f"mad.wide.u32 %a, %t, {size}, %a;"]
    offset = 0
    for kind, register in stores:
        lines.append(f"st.global.{kind} [%a+{offset}], {register};")
        offset += int(kind[1:]) // 8
    return "\n".join(lines) + "\nret;\n}\n"


def plain(
    text: str, kinds: list[str], result: str, check: dict[str, float] | None = None, seed: int = 1, operands: str = ""
) -> Case:
    """One instruction with register operands of `kinds` and a result of type `result`."""
    inputs, names, registers = [], [], []
    for i, kind in enumerate(kinds):
        bits = max(BITS[kind], 16)
        register = f"{PREFIX[REGISTER[bits]]}{i + 1}"
        inputs.append((register, bits))
        registers.append(register)
        names.append(f"{kind}.{seed + i}")
    bits = max(BITS[result], 16)
    to = f"{PREFIX[REGISTER[bits]]}0"
    arguments = ", ".join([to, *registers])
    name = text + (f" {operands.strip(', ')}" if operands else "")
    return Case(
        name,
        kernel(inputs, [f"{text} {arguments}{operands};"], [(f"b{bits}", to)]),
        names,
        bits // 8,
        check or {},
        result,
    )


def compare(text: str, kind: str) -> Case:
    bits = max(BITS[kind], 16)
    a, b = (f"{PREFIX[REGISTER[bits]]}{i}" for i in (1, 2))
    body = [f"{text} %p1, {a}, {b};", "selp.u32 %r0, 1, 0, %p1;"]
    return Case(text, kernel([(a, bits), (b, bits)], body, [("b32", "%r0")]), [f"{kind}.1", f"{kind}.2"], 4)


def arithmetic() -> Iterator[Case]:
    for op, count in (("add", 2), ("sub", 2), ("mul", 2), ("fma", 3)):
        for rounding in ("rn", "rz", "rm", "rp"):
            for ftz in ("", ".ftz"):
                for sat in ("", ".sat"):
                    yield plain(f"{op}.{rounding}{ftz}{sat}.f32", ["f32"] * count, "f32")
            yield plain(f"{op}.{rounding}.f64", ["f64"] * count, "f64")
        for kind in ("f16", "f16x2"):
            for modifier in ("", ".ftz", ".sat", ".ftz.sat"):
                yield plain(f"{op}.rn{modifier}.{kind}", [kind] * count, kind)
        for kind in ("bf16", "bf16x2"):
            yield plain(f"{op}.rn.{kind}", [kind] * count, kind)
    for kind in ("f16", "f16x2", "bf16", "bf16x2"):
        yield plain(f"fma.rn.relu.{kind}", [kind] * 3, kind)
    for op in ("min", "max"):
        for nan in ("", ".NaN"):
            for sign in ("", ".xorsign.abs"):
                for ftz in ("", ".ftz"):
                    yield plain(f"{op}{ftz}{nan}{sign}.f32", ["f32"] * 2, "f32")
                    for kind in ("f16", "f16x2"):
                        yield plain(f"{op}{ftz}{nan}{sign}.{kind}", [kind] * 2, kind)
                for kind in ("bf16", "bf16x2"):
                    yield plain(f"{op}{nan}{sign}.{kind}", [kind] * 2, kind)
        yield plain(f"{op}.f64", ["f64"] * 2, "f64")
    for op in ("abs", "neg"):
        for kind in ("f32", "f64", "f16", "f16x2", "bf16", "bf16x2"):
            yield plain(f"{op}.{kind}", [kind], kind)
        for kind in ("f32", "f16", "f16x2"):
            yield plain(f"{op}.ftz.{kind}", [kind], kind)
    yield plain("copysign.f32", ["f32", "f32"], "f32")
    yield plain("copysign.f64", ["f64", "f64"], "f64")
    for op, count in (("div", 2), ("sqrt", 1), ("rcp", 1)):
        for rounding in ("rn", "rz", "rm", "rp"):
            yield plain(f"{op}.{rounding}.f32", ["f32"] * count, "f32")
            yield plain(f"{op}.{rounding}.ftz.f32", ["f32"] * count, "f32")
            yield plain(f"{op}.{rounding}.f64", ["f64"] * count, "f64")


def approximate() -> Iterator[Case]:
    two, four = {"ulp": 3.0}, {"ulp": 4.0}
    for ftz in ("", ".ftz"):
        yield plain(f"div.full{ftz}.f32", ["f32", "f32"], "f32", four)
        yield plain(f"div.approx{ftz}.f32", ["f32", "f32"], "f32", four)
        for op in ("rcp", "sqrt", "rsqrt", "ex2"):
            yield plain(f"{op}.approx{ftz}.f32", ["f32"], "f32", two)
        yield plain(f"lg2.approx{ftz}.f32", ["f32"], "f32", {"ulp": 3.0, "absolute": 2.0**-21})
        for op in ("sin", "cos"):
            yield plain(f"{op}.approx{ftz}.f32", ["f32"], "f32", {"absolute": 2.0**-20, "within": 3.2})
    yield plain("tanh.approx.f32", ["f32"], "f32", {"relative": 2.0**-10})
    yield plain("ex2.approx.f16", ["f16"], "f16", two)
    yield plain("ex2.approx.f16x2", ["f16x2"], "f16x2", two)
    yield plain("ex2.approx.ftz.bf16", ["bf16"], "bf16", two)
    yield plain("ex2.approx.ftz.bf16x2", ["bf16x2"], "bf16x2", two)
    for kind in ("f16", "f16x2"):
        yield plain(f"tanh.approx.{kind}", [kind], kind, {"absolute": 2.0**-10})
    for kind in ("bf16", "bf16x2"):
        yield plain(f"tanh.approx.{kind}", [kind], kind, {"relative": 2.0**-7})
    yield plain("rcp.approx.ftz.f64", ["f64"], "f64", {"relative": 2.0**-18})
    yield plain("rsqrt.approx.ftz.f64", ["f64"], "f64", {"relative": 2.0**-18})
    yield plain("rsqrt.approx.f64", ["f64"], "f64", {"relative": 2.0**-18})


def conversions() -> Iterator[Case]:
    floats, integers = ("f16", "bf16", "f32", "f64"), ("s8", "u8", "s16", "u16", "s32", "u32", "s64", "u64")
    for source in floats:
        for to in integers:
            if source == "bf16" and to in ("s8", "u8"):
                continue
            for rounding in ("rni", "rzi", "rmi", "rpi"):
                yield plain(f"cvt.{rounding}.{to}.{source}", [source], to)
        for to in floats:
            if (to, source) in (("f64", "bf16"),):
                yield plain(f"cvt.{to}.{source}", [source], to)
            elif to == source:
                if to != "bf16":
                    for rounding in ("rni", "rzi", "rmi", "rpi"):
                        yield plain(f"cvt.{rounding}.{to}.{source}", [source], to)
            elif BITS[to] > BITS[source]:
                yield plain(f"cvt.{to}.{source}", [source], to)
                if to != "f64" and source == "f16":
                    yield plain(f"cvt.sat.{to}.{source}", [source], to)
            else:
                for rounding in ("rn", "rz", "rm", "rp"):
                    if {to, source} == {"f16", "bf16"} and rounding != "rn":
                        continue
                    yield plain(f"cvt.{rounding}.{to}.{source}", [source], to)
    for text in (
        "cvt.ftz.f64.f32",
        "cvt.rzi.ftz.f32.f32",
        "cvt.rni.ftz.f32.f32",
        "cvt.rzi.ftz.s32.f32",
        "cvt.rpi.ftz.s32.f32",
        "cvt.rn.ftz.f16.f32",
        "cvt.sat.f32.f32",
        "cvt.rni.sat.f32.f32",
    ):
        yield plain(text, ["f32"], text.split(".")[-2])
    yield plain("cvt.rn.ftz.f32.f64", ["f64"], "f32")
    yield plain("cvt.rn.sat.f32.f64", ["f64"], "f32")
    for source in integers:
        for to in floats:
            for rounding in ("rn", "rz", "rm", "rp"):
                if to == "bf16" and (rounding != "rn" or BITS[source] == 8):
                    continue
                yield plain(f"cvt.{rounding}.{to}.{source}", [source], to)
        for to in integers:
            if to != source:
                yield plain(f"cvt.{to}.{source}", [source], to)
                narrower = BITS[to] < BITS[source] or (BITS[to] == BITS[source] and to[0] != source[0])
                if narrower or (source[0] == "s" and to[0] == "u"):
                    yield plain(f"cvt.sat.{to}.{source}", [source], to)
    for rounding in ("rn", "rz"):
        for modifier in ("", ".relu"):
            yield plain(f"cvt.{rounding}{modifier}.f16x2.f32", ["f32", "f32"], "f16x2")
            yield plain(f"cvt.{rounding}{modifier}.bf16x2.f32", ["f32", "f32"], "bf16x2")
            yield plain(f"cvt.{rounding}{modifier}.bf16.f32", ["f32"], "bf16")
            yield plain(f"cvt.{rounding}{modifier}.f16.f32", ["f32"], "f16")
    for modifier in (".rna", ".rn", ".rz", ".rn.relu", ".rz.relu"):
        yield plain(f"cvt{modifier}.tf32.f32", ["f32"], "tf32")
    for to in ("e4m3x2", "e5m2x2"):
        for relu in ("", ".relu"):
            yield plain(f"cvt.rn.satfinite{relu}.{to}.f32", ["f32", "f32"], to)
            yield plain(f"cvt.rn.satfinite{relu}.{to}.f16x2", ["f16x2"], to)
            yield plain(f"cvt.rn{relu}.f16x2.{to}", [to], "f16x2")


def comparisons() -> Iterator[Case]:
    for op in ("eq", "ne", "lt", "le", "gt", "ge", "equ", "neu", "ltu", "leu", "gtu", "geu", "num", "nan"):
        for kind in ("f32", "f64", "f16", "bf16"):
            yield compare(f"setp.{op}.{kind}", kind)
        yield compare(f"setp.{op}.ftz.f32", "f32")
        yield plain(f"set.{op}.f16x2.f16x2", ["f16x2", "f16x2"], "f16x2")
        yield plain(f"set.{op}.f32.f32", ["f32", "f32"], "f32")
        yield plain(f"set.{op}.u32.f32", ["f32", "f32"], "u32")
    for op in ("eq", "ne", "lt", "le", "gt", "ge"):
        for kind in ("s16", "s32", "s64", "u16", "u32", "u64"):
            yield compare(f"setp.{op}.{kind}", kind)
    for op in ("lo", "ls", "hi", "hs"):
        yield compare(f"setp.{op}.u32", "u32")


def integers() -> Iterator[Case]:
    for kind in ("s16", "u16", "s32", "u32", "s64", "u64"):
        for op in ("add", "sub", "mul.lo", "mul.hi", "min", "max"):
            yield plain(f"{op}.{kind}", [kind] * 2, kind)
        yield plain(f"mad.lo.{kind}", [kind] * 3, kind)
        wide = f"{kind[0]}{2 * BITS[kind]}"
        if BITS[kind] < 64:
            yield plain(f"mul.wide.{kind}", [kind] * 2, wide)
            yield plain(f"mad.wide.{kind}", [kind, kind, wide], wide)
        yield plain(f"sad.{kind}", [kind] * 3, kind)
        for op in ("shl", "shr"):
            text = f"{op}.b{BITS[kind]}" if op == "shl" else f"shr.{kind}"
            yield plain(text, [kind, "u32"], kind)
    for kind in ("s16", "s32", "s64"):
        yield plain(f"abs.{kind}", [kind], kind)
        yield plain(f"neg.{kind}", [kind], kind)
    yield plain("add.sat.s32", ["s32", "s32"], "s32")
    yield plain("sub.sat.s32", ["s32", "s32"], "s32")
    yield plain("mad.hi.s32", ["s32"] * 3, "s32")
    yield plain("mad.hi.sat.s32", ["s32"] * 3, "s32")
    yield plain("mad.hi.u32", ["u32"] * 3, "u32")
    for kind in ("s32", "u32"):
        for op in ("mul24.lo", "mul24.hi"):
            yield plain(f"{op}.{kind}", [kind] * 2, kind)
        yield plain(f"mad24.lo.{kind}", [kind] * 3, kind)
        yield plain(f"bfind.{kind}", [kind], "u32")
        yield plain(f"bfind.shiftamt.{kind}", [kind], "u32")
        yield plain(f"bfe.{kind}", [kind, "u32", "u32"], kind)
    for kind in ("s64", "u64"):
        yield plain(f"bfind.{kind}", [kind], "u32")
        yield plain(f"bfe.{kind}", [kind, "u32", "u32"], kind)
    for bits in (32, 64):
        yield plain(f"popc.b{bits}", [f"b{bits}"], "u32")
        yield plain(f"clz.b{bits}", [f"b{bits}"], "u32")
        yield plain(f"brev.b{bits}", [f"b{bits}"], f"b{bits}")
        yield plain(f"bfi.b{bits}", [f"b{bits}", f"b{bits}", "u32", "u32"], f"b{bits}")
    for bits in (16, 32, 64):
        for op in ("and", "or", "xor"):
            yield plain(f"{op}.b{bits}", [f"b{bits}"] * 2, f"b{bits}")
        yield plain(f"not.b{bits}", [f"b{bits}"], f"b{bits}")
        yield plain(f"cnot.b{bits}", [f"b{bits}"], f"b{bits}")
    for table in (0x00, 0x1B, 0x96, 0xE8, 0xF0, 0xCA, 0xFE):
        yield plain("lop3.b32", ["b32"] * 3, "b32", operands=f", {table}")
    for mode in ("", ".f4e", ".b4e", ".rc8", ".ecl", ".ecr", ".rc16"):
        yield plain(f"prmt.b32{mode}", ["b32"] * 3, "b32")
    for direction in ("l", "r"):
        for mode in ("wrap", "clamp"):
            yield plain(f"shf.{direction}.{mode}.b32", ["b32", "b32", "u32"], "b32")
    for a in ("s32", "u32"):
        for b in ("s32", "u32"):
            yield plain(f"dp4a.{a}.{b}", ["b32", "b32", "s32"], "s32")
            for half in ("lo", "hi"):
                yield plain(f"dp2a.{half}.{a}.{b}", ["b32", "b32", "s32"], "s32")
    for kind in ("u16x2", "s16x2"):
        for op in ("add", "min", "max"):
            yield plain(f"{op}.{kind}", [kind, kind], kind)
    for mode in ("wrap", "clamp"):
        yield plain(f"szext.{mode}.s32", ["s32", "u32"], "s32")
        yield plain(f"szext.{mode}.u32", ["u32", "u32"], "u32")
        yield plain(f"bmsk.{mode}.b32", ["u32", "u32"], "b32")
    # A base over 31 has no defined answer.
    body = ["and.b32 %r2, %r2, 31;", "fns.b32 %r0, %r1, %r2, %r3;"]
    yield Case(
        "fns.b32",
        kernel([("%r1", 32), ("%r2", 32), ("%r3", 32)], body, [("b32", "%r0")]),
        ["b32.1", "u32.2", "s32.3"],
        4,
    )
    yield plain("slct.s32.s32", ["s32", "s32", "s32"], "s32")
    yield plain("slct.u32.f32", ["u32", "u32", "f32"], "u32")


def divisions() -> Iterator[Case]:
    """Division by zero has no defined answer, so the divisor gets its lowest bit set."""
    for kind in ("s16", "u16", "s32", "u32", "s64", "u64"):
        bits = BITS[kind]
        prefix = PREFIX[REGISTER[bits]]
        for op in ("div", "rem"):
            body = [f"or.b{bits} {prefix}2, {prefix}2, 1;", f"{op}.{kind} {prefix}0, {prefix}1, {prefix}2;"]
            inputs = [(f"{prefix}1", bits), (f"{prefix}2", bits)]
            yield Case(
                f"{op}.{kind}",
                kernel(inputs, body, [(f"b{bits}", f"{prefix}0")]),
                [f"{kind}.1", f"{kind}.2"],
                bits // 8,
            )


def nans() -> Iterator[Case]:
    """Which of several NaNs comes out, and what of it."""
    for kind in ("f32", "f64", "f16", "bf16"):
        nan = f"nan_{kind}"
        for op, count in (("add", 2), ("sub", 2), ("mul", 2), ("fma", 3), ("min", 2), ("max", 2)):
            rounding = "" if op in ("min", "max") else ".rn"
            yield nan_case(f"{op}{rounding}.{kind}", [nan] * count, kind)
        if kind != "f64":
            yield nan_case(f"min.NaN.xorsign.abs.{kind}", [nan] * 2, kind)
            yield nan_case(f"max.xorsign.abs.{kind}", [nan] * 2, kind)
        yield nan_case(f"abs.{kind}", [nan], kind)
        yield nan_case(f"neg.{kind}", [nan], kind)
    for text, kind in (
        ("cvt.rna.tf32.f32", "f32"),
        ("cvt.rn.tf32.f32", "f32"),
        ("cvt.f64.f32", "f32"),
        ("cvt.rn.f16.f32", "f32"),
        ("cvt.rn.f32.f64", "f64"),
        ("cvt.rz.f16.f64", "f64"),
        ("cvt.rn.bf16.f64", "f64"),
        ("cvt.f64.f16", "f16"),
        ("cvt.f32.f16", "f16"),
        ("cvt.f32.bf16", "bf16"),
        ("cvt.f64.bf16", "bf16"),
        ("div.rn.f32", "f32"),
        ("div.rn.f64", "f64"),
        ("sqrt.rn.f64", "f64"),
        ("rcp.rn.f64", "f64"),
    ):
        to = text.split(".")[-2] if text.startswith("cvt") else kind
        yield nan_case(text, [f"nan_{kind}"] * (2 if text.startswith("div") else 1), to)


def nan_case(text: str, kinds: list[str], result: str) -> Case:
    case = plain(text, kinds, result)
    case.name += " of NaNs"
    return case


def matrix(
    text: str, a: str, b: str, c: str, counts: tuple[int, int, int], wide: bool, element: str, check: dict[str, float]
) -> Case:
    bits, prefix = (64, "%d") if wide else (32, "%r")
    parameters = ", ".join(f".param .u64 p{i}" for i in range(4))
    lines = [
        HEADER + f".visible .entry k({parameters})\n{{",
        ".reg .b32 %r<64>;",
        ".reg .b64 %d<64>;",
        ".reg .b32 %t;",
        ".reg .b64 %a;",
        "mov.u32 %t, %tid.x;",
    ]
    first, groups = 0, []
    for i, count in enumerate(counts):
        lines += [f"ld.param.u64 %a, [p{i}];", f"mad.wide.u32 %a, %t, {bits // 8}, %a;"]
        group = [f"{prefix}{first + j}" for j in range(count)]
        lines += [f"ld.global.b{bits} {r}, [%a+{j * THREADS * bits // 8}];" for j, r in enumerate(group)]
        groups.append("{" + ", ".join(group) + "}")
        first += count
    d = [f"{prefix}{first + j}" for j in range(counts[2])]
    lines.append(f"{text} {{{', '.join(d)}}}, {', '.join(groups)};")
    lines += ["ld.param.u64 %a, [p3];", f"mad.wide.u32 %a, %t, {counts[2] * bits // 8}, %a;"]
    lines += [f"st.global.b{bits} [%a+{j * bits // 8}], {r};" for j, r in enumerate(d)]
    ptx = "\n".join(lines) + "\nret;\n}\n"
    return Case(text, ptx, [f"mma_{a}.1", f"mma_{b}.2", f"mma_{c}.3"], counts[2] * bits // 8, check, element)


def matrices() -> Iterator[Case]:
    single, half = {"absolute": 2.0**-16}, {"absolute": 2.0**-6}
    for k, counts in ((8, (2, 1, 4)), (16, (4, 2, 4))):
        for kind in ("f16", "bf16"):
            yield matrix(
                f"mma.sync.aligned.m16n8k{k}.row.col.f32.{kind}.{kind}.f32",
                kind,
                kind,
                "f32",
                counts,
                False,
                "f32",
                single,
            )
        yield matrix(
            f"mma.sync.aligned.m16n8k{k}.row.col.f16.f16.f16.f16",
            "f16",
            "f16",
            "f16",
            (counts[0], counts[1], 2),
            False,
            "f16x2",
            half,
        )
    for k, counts in ((4, (2, 1, 4)), (8, (4, 2, 4))):
        yield matrix(
            f"mma.sync.aligned.m16n8k{k}.row.col.f32.tf32.tf32.f32",
            "f32",
            "f32",
            "f32",
            counts,
            False,
            "f32",
            {"absolute": 2.0**-10},
        )
    for a in ("e4m3", "e5m2"):
        for b in ("e4m3", "e5m2"):
            yield matrix(
                f"mma.sync.aligned.m16n8k32.row.col.f32.{a}.{b}.f32",
                "byte_float",
                "byte_float",
                "f32",
                (4, 2, 4),
                False,
                "f32",
                {"absolute": 2.0**-5, "relative": 2.0**-10},
            )
    for k, m, counts in ((4, 8, (1, 1, 2)), (4, 16, (2, 1, 4)), (8, 16, (4, 2, 4)), (16, 16, (8, 4, 4))):
        yield matrix(
            f"mma.sync.aligned.m{m}n8k{k}.row.col.f64.f64.f64.f64",
            "f64",
            "f64",
            "f64",
            counts,
            True,
            "f64",
            {"absolute": 2.0**-46},
        )
    for m, k, counts in ((8, 16, (1, 1, 2)), (16, 16, (2, 1, 4)), (16, 32, (4, 2, 4))):
        for a in ("s8", "u8"):
            for b in ("s8", "u8"):
                for sat in ("", ".satfinite"):
                    yield matrix(
                        f"mma.sync.aligned.m{m}n8k{k}.row.col{sat}.s32.{a}.{b}.s32",
                        "word",
                        "word",
                        "word",
                        counts,
                        False,
                        "s32",
                        {},
                    )
    for m, k, counts in ((8, 32, (1, 1, 2)), (16, 32, (2, 1, 4)), (16, 64, (4, 2, 4))):
        for a, b in (("s4", "s4"), ("u4", "s4"), ("u4", "u4")):
            yield matrix(
                f"mma.sync.aligned.m{m}n8k{k}.row.col.s32.{a}.{b}.s32", "word", "word", "word", counts, False, "s32", {}
            )
    for m, k, counts in ((8, 128, (1, 1, 2)), (16, 128, (2, 1, 4)), (16, 256, (4, 2, 4))):
        for op in ("xor", "and"):
            yield matrix(
                f"mma.sync.aligned.m{m}n8k{k}.row.col.s32.b1.b1.s32.{op}.popc",
                "word",
                "word",
                "word",
                counts,
                False,
                "s32",
                {},
            )


def cases() -> list[Case]:
    found: list[Case] = []
    for family in (arithmetic, approximate, conversions, comparisons, integers, divisions, nans, matrices):
        found.extend(family())
    return found
