"""Kernels whose answers need more than registers: memory, atomics, warps, barriers, asynchronous copies, wgmma, TMA.

As forms.py, but a case says how many threads it has and how long its answer is. Threads write to the answer alone, or
in ways whose order does not matter.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from forms import HEADER, Random, float_value, integer_value, pool

MASK32 = 0xFFFFFFFF


@dataclass
class Program:
    """`inputs`: pools, each a pointer parameter; then one pointer to the answer, which begins as `start` (a pool) or
    zero. `exact` false: floats of type `element`, within `absolute` + `relative` × |theirs|."""

    name: str
    ptx: str
    inputs: list[str]
    answer_bytes: int
    threads: int = 32
    start: str = ""
    element: str = ""
    absolute: float = 0.0
    relative: float = 0.0
    check: dict[str, float] = field(default_factory=dict)


def data(name: str) -> bytes:
    """The bytes of a pool: "KIND:BYTES.SEED", or one of forms.py."""
    if ":" not in name:
        return pool(name)
    kind, rest = name.split(":")
    size, seed = (int(part) for part in rest.split("."))
    random = Random(1000 * seed + sum(ord(c) << (3 * i) for i, c in enumerate(kind)))
    out = bytearray()
    while len(out) < size:
        r = random.next()
        if kind == "bytes":
            out += r.to_bytes(8, "little")
        elif kind == "small_f16":  # whole numbers from -4 to 4: sums of their products are exact in any order
            out += b"".join(HALF[(r >> (8 * i)) % 9] for i in range(4))
        elif kind == "small_bf16":
            out += b"".join(SINGLE[(r >> (8 * i)) % 9][2:] for i in range(4))
        elif kind == "small_f32":
            out += SINGLE[r % 9] + SINGLE[(r >> 8) % 9]
        elif kind == "small_f64":
            out += DOUBLE[r % 9]
        elif kind == "small_e4m3":
            out += bytes(E4M3[(r >> (8 * i)) % 9] for i in range(8))
        elif kind == "small_e5m2":
            out += bytes(E5M2[(r >> (8 * i)) % 9] for i in range(8))
        elif kind == "tame_f16":
            for i in range(4):
                w = r >> (16 * i)
                out += ((w & 1) << 15 | (11 + (w >> 1) % 5) << 10 | (w >> 4) & 0x3FF).to_bytes(2, "little")
        elif kind == "tame_bf16":
            for i in range(4):
                w = r >> (16 * i)
                out += ((w & 1) << 15 | (123 + (w >> 1) % 5) << 7 | (w >> 4) & 0x7F).to_bytes(2, "little")
        elif kind == "tame_f32":
            for i in range(2):
                w = r >> (32 * i)
                out += ((w & 1) << 31 | (123 + (w >> 1) % 5) << 23 | (w >> 4) & 0x7FFFFF).to_bytes(4, "little")
        elif kind == "mixed":
            what = r % 5
            if what < 2:
                out += b"".join(float_value("f32", random).to_bytes(4, "little") for _ in range(2))
            elif what == 2:
                out += float_value("f64", random).to_bytes(8, "little")
            elif what == 3:
                out += b"".join(float_value("f16", random).to_bytes(2, "little") for _ in range(4))
            else:
                out += b"".join(integer_value(32, random).to_bytes(4, "little") for _ in range(2))
        else:
            raise ValueError(f"no pool of kind {kind}")
    return bytes(out[:size])


def whole(exponent: int, mantissa: int, size: int) -> list[bytes]:
    """-4 … 4 in a float format."""
    bias, found = (1 << (exponent - 1)) - 1, []
    for value in range(-4, 5):
        bits = 0
        if value != 0:
            e = abs(value).bit_length() - 1
            bits = (bias + e) << mantissa | (abs(value) - (1 << e)) << mantissa >> e
        found.append((bits | (value < 0) << (exponent + mantissa)).to_bytes(size, "little"))
    return found


HALF, SINGLE, DOUBLE = whole(5, 10, 2), whole(8, 23, 4), whole(11, 52, 8)
E4M3, E5M2 = [b[0] for b in whole(4, 3, 1)], [b[0] for b in whole(5, 2, 1)]

REGISTERS = [
    ".reg .pred %p<8>;",
    ".reg .b16 %h<40>;",
    ".reg .b32 %r<300>;",
    ".reg .b64 %d<80>;",
    ".reg .b128 %q<8>;",
    ".reg .b32 %t;",
    ".reg .b64 %in, %in2, %out, %a;",
]


def program(
    name: str,
    body: list[str],
    inputs: list[str],
    answer: int,
    threads: int = 32,
    shared: int = 0,
    start: str = "",
    directive: str = "",
    version: str = "",
    **check: float | str,
) -> Program:
    parameters = ", ".join(f".param .u64 p{i}" for i in range(len(inputs) + 1))
    header = version or HEADER
    lines = [header, f".visible .entry k({parameters}) {directive}", "{", *REGISTERS]
    if shared:
        lines.append(f".shared .align 1024 .b8 s[{shared}];")
    lines += ["mov.u32 %t, %tid.x;"]
    lines += [f"ld.param.u64 {('%in', '%in2')[i]}, [p{i}];" for i in range(len(inputs))]
    lines += [f"ld.param.u64 %out, [p{len(inputs)}];", *body, "ret;", "}"]
    return Program(name, "\n".join(lines) + "\n", inputs, answer, threads, start, **check)  # type: ignore[arg-type]


def per_thread(size: int, base: str = "%out") -> list[str]:
    """%a = base + tid × size."""
    return [f"mad.wide.u32 %a, %t, {size}, {base};"]


PREFIX = {8: "%h", 16: "%h", 32: "%r", 64: "%d", 128: "%q"}


def loads_and_stores() -> Iterator[Program]:
    for bits in (8, 16, 32, 64, 128):
        for vector in (1, 2, 4):
            size = bits // 8 * vector
            if size > 16:
                continue
            registers = [f"{PREFIX[bits]}{i}" for i in range(vector)]
            operand = registers[0] if vector == 1 else "{" + ", ".join(registers) + "}"
            v = "" if vector == 1 else f".v{vector}"
            for kind in (
                "",
                ".nc",
                ".volatile",
                ".relaxed.gpu",
                ".acquire.sys",
                ".L1::evict_last",
                ".L1::no_allocate",
                ".L2::128B",
            ):
                if bits == 128 and kind in (
                    ".nc",
                    ".volatile",
                    ".relaxed.gpu",
                    ".acquire.sys",
                    ".L1::evict_last",
                    ".L1::no_allocate",
                    ".L2::128B",
                ):
                    continue
                if vector > 1 and kind in (".acquire.sys",):
                    continue
                where = kind.replace(".nc", "") + ".global" + (".nc" if kind == ".nc" else "")
                if kind.startswith(".L"):
                    where = ".global" + kind
                body = [
                    *per_thread(size, "%in"),
                    f"ld{where}{v}.b{bits} {operand}, [%a];",
                    *per_thread(size),
                    f"st.global{v}.b{bits} [%a], {operand};",
                ]
                yield program(f"ld{where}{v}.b{bits}", body, ["bytes:512.1"], 32 * size)
            for space, declare in (("shared", 1024), ("local", 0)):
                place = "s" if space == "shared" else "l"
                body = [
                    *([".local .align 16 .b8 l[64];"] if space == "local" else []),
                    *per_thread(size, "%in"),
                    f"ld.global{v}.b{bits} {operand}, [%a];",
                    f"mov.u32 %r100, {place};",
                    *([f"mad.lo.u32 %r100, %t, {size}, %r100;"] if space == "shared" else []),
                    f"st.{space}{v}.b{bits} [%r100], {operand};",
                    *([] if space == "local" else ["bar.sync 0;"]),
                    f"ld.{space}{v}.b{bits} {operand}, [%r100];",
                    *per_thread(size),
                    f"st.global{v}.b{bits} [%a], {operand};",
                ]
                yield program(f"{space}{v}.b{bits}", body, ["bytes:512.2"], 32 * size, shared=declare)
    for kind, register in (
        ("s8", "%r"),
        ("u8", "%r"),
        ("s8", "%d"),
        ("u8", "%d"),
        ("s16", "%r"),
        ("u16", "%r"),
        ("s16", "%d"),
        ("s32", "%d"),
        ("u32", "%d"),
    ):
        size, wide = int(kind[1:]) // 8, {"%r": 32, "%d": 64}[register]
        body = [
            *per_thread(size, "%in"),
            f"ld.global.{kind} {register}0, [%a];",
            *per_thread(wide // 8),
            f"st.global.b{wide} [%a], {register}0;",
        ]
        yield program(f"ld.global.{kind} to {wide} bits", body, ["bytes:512.3"], 32 * wide // 8)
        body[-1] = f"st.global.{kind} [%a], {register}0;"
        yield program(f"st.global.{kind} of {wide} bits", body, ["bytes:512.4"], 32 * wide // 8)


def async_copies() -> Iterator[Program]:
    for where, size in (("ca", 4), ("ca", 8), ("ca", 16), ("cg", 16)):
        for given in ("", ", 3", f", {size}", ", 0", ", %p1"):
            body = [
                *per_thread(size, "%in"),
                "mov.u32 %r1, s;",
                f"mad.lo.u32 %r1, %t, {size}, %r1;",
                "and.b32 %r2, %t, 1;",
                "setp.eq.u32 %p1, %r2, 0;",
                "mov.u32 %r5, 0xdeadbeef;",
            ]
            body += [f"st.shared.b32 [%r1+{i}], %r5;" for i in range(0, size, 4)]
            body += [
                "bar.sync 0;",
                f"cp.async.{where}.shared.global [%r1], [%a], {size}{given};",
                "cp.async.commit_group;",
                "cp.async.wait_group 0;",
                "bar.sync 0;",
                *per_thread(size),
            ]
            for i in range(0, size, 4):
                body += [f"ld.shared.b32 %r3, [%r1+{i}];", f"st.global.b32 [%a+{i}], %r3;"]
            yield program(f"cp.async.{where} {size}{given}", body, ["bytes:512.5"], 32 * size, shared=1024)


ATOMICS = {
    "add": ("u32", "s32", "u64", "f32", "f64", "noftz.f16", "noftz.bf16", "noftz.f16x2", "noftz.bf16x2"),
    "min": ("u32", "s32", "u64", "s64"),
    "max": ("u32", "s32", "u64", "s64"),
    "and": ("b32", "b64"),
    "or": ("b32", "b64"),
    "xor": ("b32", "b64"),
    "exch": ("b32", "b64", "b128"),
    "cas": ("b16", "b32", "b64", "b128"),
    "inc": ("u32",),
    "dec": ("u32",),
}


def width(kind: str) -> int:
    kind = kind.split(".")[-1]
    return 32 if kind in ("f16x2", "bf16x2") else int(kind.lstrip("usbf"))


def atomics() -> Iterator[Program]:
    for op, kinds in ATOMICS.items():
        for kind in kinds:
            bits = width(kind)
            size, r = bits // 8, PREFIX[bits]
            name = kind.split(".")[-1]
            pool_of = (
                {"noftz": name}.get(kind.split(".")[0], kind)
                if bits != 128 and op not in ("exch", "cas")
                else f"b{bits}"
            )
            inputs = [f"{pool_of}.1", f"{pool_of}.2"] if bits != 128 else ["bytes:4096.6", "bytes:4096.7"]
            for space in ("global", "shared"):
                if bits == 128 and space == "shared":
                    continue
                for sem in ("", ".relaxed.gpu", ".acq_rel.cta", ".acquire.gpu", ".release.sys"):
                    text = f"atom{sem}.{space}.{op}.{kind}"
                    to = "[%d70]" if space == "global" else "[%r200]"
                    # Every thread its own cell: the old value, then what the cell holds.
                    body = [
                        *per_thread(size, "%in"),
                        f"ld.global.b{bits} {r}1, [%a];",
                        *per_thread(size, "%in2"),
                        f"ld.global.b{bits} {r}2, [%a];",
                        *per_thread(2 * size),
                        "mov.u32 %r200, s;",
                        f"mad.lo.u32 %r200, %t, {size}, %r200;",
                        f"add.u64 %d70, %a, {size};",
                        f"st.{space}.b{bits} {to}, {r}1;",
                    ]
                    third = f", {r}3" if op == "cas" else ""
                    if op == "cas":
                        # Half of the threads expect what is there.
                        body += ["and.b32 %r201, %t, 1;", "setp.eq.u32 %p1, %r201, 0;"]
                        body += [f"mov.b{bits} {r}3, {r}2;", f"@%p1 mov.b{bits} {r}2, {r}1;"]
                    body += [f"{text} {r}4, {to}, {r}2{third};", f"ld.{space}.b{bits} {r}5, {to};"]
                    if bits == 128:
                        body += [f"st.global.b128 [%a], {r}4;", f"st.global.b128 [%a+16], {r}5;"]
                    else:
                        body += [f"st.global.b{bits} [%a], {r}4;", f"st.global.b{bits} [%a+{size}], {r}5;"]
                    yield program(text, body, inputs, 64 * 2 * size, 64, 4096)
                if bits == 128 or op in ("exch", "cas") or bits == 16:
                    continue
                text = f"red.{space}.{op}.{kind}"
                body = [
                    *per_thread(size, "%in"),
                    f"ld.global.b{bits} {r}1, [%a];",
                    *per_thread(size, "%in2"),
                    f"ld.global.b{bits} {r}2, [%a];",
                    *per_thread(size),
                    "mov.u32 %r200, s;",
                    f"mad.lo.u32 %r200, %t, {size}, %r200;",
                    "mov.u64 %d70, %a;",
                    f"st.{space}.b{bits} {to}, {r}1;",
                    f"{text} {to}, {r}2;",
                    f"ld.{space}.b{bits} {r}5, {to};",
                    f"st.global.b{bits} [%a], {r}5;",
                ]
                yield program(text, body, inputs, 64 * size, 64, 4096)
                if "f" in name:
                    continue
                # All threads one cell; the order does not matter.
                if op in ("inc", "dec"):
                    continue
                first = {"and": -1, "min": -1 if kind[0] == "u" else (1 << (bits - 1)) - 1}.get(op, 0)
                body = [
                    *per_thread(size, "%in"),
                    f"ld.global.b{bits} {r}2, [%a];",
                    "mov.u32 %r200, s;",
                    "mov.u64 %d70, %out;",
                    f"mov.b{bits} {r}1, {first};",
                    "setp.eq.u32 %p1, %t, 0;",
                    f"@%p1 st.{space}.b{bits} {to}, {r}1;",
                    "bar.sync 0;",
                    f"{text} {to}, {r}2;",
                    "bar.sync 0;",
                    f"@%p1 ld.{space}.b{bits} {r}5, {to};",
                    f"@%p1 st.global.b{bits} [%out], {r}5;",
                ]
                yield program(f"{text} of many", body, inputs[:1], size, 256, 4096)
    for kind, vector in (
        ("f32", 2),
        ("f32", 4),
        ("noftz.f16", 2),
        ("noftz.f16", 8),
        ("noftz.bf16", 4),
        ("noftz.f16x2", 2),
        ("noftz.f16x2", 4),
        ("noftz.bf16x2", 4),
    ):
        for op in ("add", "min", "max"):
            if kind == "f32" and op != "add":
                continue
            bits = width(kind)
            words = bits * vector // 32
            given = [f"{PREFIX[bits]}{i}" for i in range(vector)]
            old = [f"{PREFIX[bits]}{i + 20}" for i in range(vector)]
            element = kind.split(".")[-1]
            text = f"atom.global.{op}" + (".noftz" if "f16" in element else "") + f".v{vector}.{element}"
            body = [
                *per_thread(4 * words, "%in"),
                *[f"ld.global.b{bits} {g}, [%a+{i * bits // 8}];" for i, g in enumerate(given)],
                *per_thread(8 * words),
                *[f"st.global.b{bits} [%a+{4 * words + i * bits // 8}], {g};" for i, g in enumerate(reversed(given))],
                f"add.u64 %d70, %a, {4 * words};",
                f"{text} {{{', '.join(old)}}}, [%d70], {{{', '.join(given)}}};",
                *[f"st.global.b{bits} [%a+{i * bits // 8}], {o};" for i, o in enumerate(old)],
            ]
            yield program(text, body, [f"{element}.3"], 32 * 8 * words)


def float_tests() -> Iterator[Program]:
    for kind, bits in (("f32", 32), ("f64", 64)):
        r = PREFIX[bits] + "1"
        for what in ("finite", "infinite", "number", "notanumber", "normal", "subnormal"):
            load = [*per_thread(bits // 8, "%in"), f"ld.global.b{bits} {r}, [%a];"]
            test = [f"testp.{what}.{kind} %p1, {r};", "selp.u32 %r0, 1, 0, %p1;"]
            text = f"testp.{what}.{kind}"
            yield program(text, [*load, *test, *per_thread(4), "st.global.b32 [%a], %r0;"], [f"{kind}.1"], 1024, 256)


def warps() -> Iterator[Program]:
    load = [*per_thread(4, "%in"), "ld.global.b32 %r1, [%a];", *per_thread(4, "%in2"), "ld.global.b32 %r2, [%a];"]
    store = [*per_thread(8), "selp.u32 %r9, 1, 0, %p1;", "st.global.b32 [%a], %r0;", "st.global.b32 [%a+4], %r9;"]
    inputs = ["b32.1", "u32.2"]
    for mode in ("up", "down", "bfly", "idx"):
        for clamp in (0, 31, 0x1C03, 0x181F, 0x1000, 0x100F):
            body = [*load, "and.b32 %r2, %r2, 31;", f"shfl.sync.{mode}.b32 %r0|%p1, %r1, %r2, {clamp}, -1;", *store]
            yield program(f"shfl.sync.{mode} {clamp:#x}", body, inputs, 32 * 8)
    for op in ("add", "min", "max"):
        for kind in ("u32", "s32"):
            yield program(
                f"redux.sync.{op}.{kind}",
                [*load, f"redux.sync.{op}.{kind} %r0, %r1, -1;", "setp.eq.u32 %p1, 0, 0;", *store],
                inputs,
                256,
            )
            yield program(
                f"redux.sync.{op}.{kind} of some",
                [
                    *load,
                    "and.b32 %r3, %t, 3;",
                    "setp.ne.u32 %p1, %r3, 0;",
                    "mov.u32 %r0, 0;",
                    f"@%p1 redux.sync.{op}.{kind} %r0, %r1, 0xeeeeeeee;",
                    *store,
                ],
                inputs,
                256,
            )
    for op in ("and", "or", "xor"):
        yield program(
            f"redux.sync.{op}.b32",
            [*load, f"redux.sync.{op}.b32 %r0, %r1, -1;", "setp.eq.u32 %p1, 0, 0;", *store],
            inputs,
            256,
        )
    for mode in ("all", "any", "uni"):
        for test in ("%p2", "!%p2"):
            yield program(
                f"vote.sync.{mode} {test}",
                [
                    *load,
                    "and.b32 %r3, %r1, 1;",
                    "setp.eq.u32 %p2, %r3, 0;",
                    "mov.u32 %r0, 0;",
                    f"vote.sync.{mode}.pred %p1, {test}, -1;",
                    *store,
                ],
                inputs,
                256,
            )
    yield program(
        "vote.sync.ballot",
        [*load, "and.b32 %r3, %r1, 1;", "setp.eq.u32 %p1, %r3, 0;", "vote.sync.ballot.b32 %r0, %p1, -1;", *store],
        inputs,
        256,
    )
    for kind in ("b32", "b64"):
        value = ["and.b32 %r1, %r1, 3;", *(["cvt.u64.u32 %d1, %r1;"] if kind == "b64" else [])]
        r = "%d1" if kind == "b64" else "%r1"
        yield program(
            f"match.any.sync.{kind}",
            [*load, *value, f"match.any.sync.{kind} %r0, {r}, -1;", "setp.eq.u32 %p1, 0, 0;", *store],
            inputs,
            256,
        )
        yield program(
            f"match.all.sync.{kind}", [*load, *value, f"match.all.sync.{kind} %r0|%p1, {r}, -1;", *store], inputs, 256
        )
    yield program("elect.sync", ["elect.sync %r0|%p1, -1;", *store], [], 256)
    yield program(
        "elect.sync of some",
        [
            "mov.u32 %r0, 0;",
            "setp.gt.u32 %p2, %t, 4;",
            "setp.eq.u32 %p1, 0, 1;",
            "@%p2 elect.sync %r0|%p1, 0xffffffe0;",
            *store,
        ],
        [],
        256,
    )
    yield program(
        "activemask",
        ["mov.u32 %r0, 0;", "setp.gt.u32 %p1, %t, 9;", "@!%p1 bra DONE;", "activemask.b32 %r0;", "DONE:", *store],
        [],
        256,
    )
    for op in ("popc.u32", "and.pred", "or.pred"):
        result = "%r0" if op == "popc.u32" else "%p1"
        body = [
            *load,
            "and.b32 %r3, %r1, 1;",
            "setp.eq.u32 %p2, %r3, 0;",
            "setp.eq.u32 %p1, 0, 0;",
            "mov.u32 %r0, 0;",
            f"bar.red.{op} {result}, 1, %p2;",
            *store,
        ]
        yield program(f"bar.red.{op}", body, inputs, 128 * 8, 128)


def matrix_access() -> Iterator[Program]:
    fill_shared = ["mov.u32 %r100, s;", "mad.lo.u32 %r101, %t, 64, %r100;", "mad.wide.u32 %a, %t, 64, %in;"]
    for i in range(0, 64, 16):
        fill_shared += [
            f"ld.global.v4.b32 {{%r1, %r2, %r3, %r4}}, [%a+{i}];",
            f"st.shared.v4.b32 [%r101+{i}], {{%r1, %r2, %r3, %r4}};",
        ]
    fill_shared += [
        "bar.sync 0;",
        "mul.lo.u32 %r102, %t, 37;",
        "and.b32 %r102, %r102, 127;",
        "mad.lo.u32 %r103, %r102, 16, %r100;",
    ]
    for count in (1, 2, 4):
        for trans in ("", ".trans"):
            registers = ", ".join(f"%r{i}" for i in range(count))
            yield program(
                f"ldmatrix.x{count}{trans}",
                [
                    *fill_shared,
                    f"ldmatrix.sync.aligned.m8n8.x{count}{trans}.shared.b16 {{{registers}}}, [%r103];",
                    *per_thread(4 * count),
                    *[f"st.global.b32 [%a+{4 * i}], %r{i};" for i in range(count)],
                ],
                ["bytes:2048.8"],
                128 * count,
                shared=2048,
            )
            yield program(
                f"stmatrix.x{count}{trans}",
                [
                    *fill_shared,
                    *per_thread(16, "%in"),
                    "ld.global.v4.b32 {%r0, %r1, %r2, %r3}, [%a];",
                    "bar.sync 0;",
                    f"stmatrix.sync.aligned.m8n8.x{count}{trans}.shared.b16 [%r103], {{{registers}}};",
                    "bar.sync 0;",
                    "mad.wide.u32 %a, %t, 64, %out;",
                    *[
                        line
                        for i in range(0, 64, 16)
                        for line in (
                            f"ld.shared.v4.b32 {{%r1, %r2, %r3, %r4}}, [%r101+{i}];",
                            f"st.global.v4.b32 [%a+{i}], {{%r1, %r2, %r3, %r4}};",
                        )
                    ],
                ],
                ["bytes:2048.9"],
                2048,
                shared=2048,
            )
    yield program(
        "movmatrix",
        [
            *per_thread(4, "%in"),
            "ld.global.b32 %r1, [%a];",
            "movmatrix.sync.aligned.m8n8.trans.b16 %r0, %r1;",
            *per_thread(4),
            "st.global.b32 [%a], %r0;",
        ],
        ["bytes:512.10"],
        128,
    )


def programs() -> list[Program]:
    found: list[Program] = []
    for family in (loads_and_stores, async_copies, atomics, float_tests, warps, matrix_access):
        found.extend(family())
    return found
