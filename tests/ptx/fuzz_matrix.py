"""Steps of random programs that a whole warp takes: mma of values whose sums are exact, matrices in shared memory."""

from __future__ import annotations

from fuzz_steps import step
from fuzz_writer import Writer
from program_tree import Step

# Operands become ±1 … ±1.75 (±1 or ±1.5 in 8 bits): (opcode, mask, ones) for a register.
TAME = {
    "f16": ("0x83008300", "0x3c003c00"),
    "bf16": ("0x80608060", "0x3f803f80"),
    "tf32": ("0x80600000", "0x3f800000"),
    "e4m3": ("0x84848484", "0x38383838"),
    "e5m2": ("0x82828282", "0x3c3c3c3c"),
}
# Shape, types of D, A, B, C, registers of A, B, C.
SHAPES = [
    ("m16n8k16", "f32", "f16", "f16", "f32", 4, 2, 4),
    ("m16n8k8", "f32", "f16", "f16", "f32", 2, 1, 4),
    ("m16n8k16", "f16", "f16", "f16", "f16", 4, 2, 2),
    ("m16n8k8", "f16", "f16", "f16", "f16", 2, 1, 2),
    ("m16n8k16", "f32", "bf16", "bf16", "f32", 4, 2, 4),
    ("m16n8k8", "f32", "bf16", "bf16", "f32", 2, 1, 4),
    ("m16n8k8", "f32", "tf32", "tf32", "f32", 4, 2, 4),
    ("m16n8k4", "f32", "tf32", "tf32", "f32", 2, 1, 4),
    *(("m16n8k32", "f32", a, b, "f32", 4, 2, 4) for a in ("e4m3", "e5m2") for b in ("e4m3", "e5m2")),
    ("m8n8k4", "f64", "f64", "f64", "f64", 1, 1, 2),
    ("m16n8k4", "f64", "f64", "f64", "f64", 2, 1, 4),
    ("m16n8k8", "f64", "f64", "f64", "f64", 4, 2, 4),
    ("m16n8k16", "f64", "f64", "f64", "f64", 8, 4, 4),
    *(("m16n8k32", "s32", a, b, "s32", 4, 2, 4) for a in ("s8", "u8") for b in ("s8", "u8")),
    *(("m16n8k16", "s32", a, b, "s32", 2, 1, 4) for a in ("s8", "u8") for b in ("s8", "u8")),
    *(("m8n8k16", "s32", a, b, "s32", 1, 1, 2) for a in ("s8", "u8") for b in ("s8", "u8")),
    *(("m16n8k64", "s32", a, b, "s32", 4, 2, 4) for a in ("s4", "u4") for b in ("s4", "u4")),
    *(("m16n8k32", "s32", a, b, "s32", 2, 1, 4) for a in ("s4", "u4") for b in ("s4", "u4")),
    ("m16n8k256", "s32", "b1", "b1", "s32", 4, 2, 4),
    ("m16n8k128", "s32", "b1", "b1", "s32", 2, 1, 4),
]


def operands(w: Writer, kind: str, names: list[str]) -> list[str]:
    lines = []
    for name in names:
        if kind == "f64":
            lines += [
                f"and.b64 {name}, {w.register('D')}, {0x8006000000000000 - (1 << 64)};",
                f"or.b64 {name}, {name}, {0x3FF0000000000000};",
            ]
        elif kind in TAME:
            mask, ones = TAME[kind]
            lines += [f"and.b32 {name}, {w.register('R')}, {mask};", f"or.b32 {name}, {name}, {ones};"]
        elif kind == "f32":
            lines += [f"and.b32 {name}, {w.register('R')}, 255;", f"cvt.rn.f32.s32 {name}, {name};"]
        else:
            lines.append(f"mov.b32 {name}, {w.register('R')};")
    return lines


def mma(w: Writer) -> Step:
    shape, d, a, b, c, count_a, count_b, count_c = SHAPES[w.pick(len(SHAPES))]
    prefix = "%v" if d == "f64" else "%m"
    names = [f"{prefix}{i}" for i in range(count_a + count_b + count_c)]
    group_a, group_b, group_c = names[:count_a], names[count_a : count_a + count_b], names[count_a + count_b :]
    lines = [*operands(w, a, group_a), *operands(w, b, group_b), *operands(w, c, group_c)]
    braces = ["{" + ", ".join(g) + "}" for g in (group_a, group_b, group_c)]
    saturates = ".satfinite" if d == "s32" and a != "b1" and w.pick(2) else ""
    form = f"mma.sync.aligned.{shape}.row.col{saturates}.{d}.{a}.{b}.{c}"
    if a == "b1":
        form += "." + w.one("and", "xor") + ".popc"
    lines += ["bar.warp.sync -1;", f"{form} {braces[2]}, {braces[0]}, {braces[1]}, {braces[2]};"]
    for i, name in enumerate(group_c):
        if d == "f64":
            lines.append(f"mov.b64 %d{(i + w.pick(2)) % 6}, {name};")
        else:
            lines.append(f"mov.b32 %r{3 * i % 12}, {name};")
    return step(*lines)


def shared_matrix(w: Writer) -> Step:
    """Rows of 16 bytes: the threads write theirs, then matrices are read from rows of the lanes' own choice."""
    count = (1, 2, 4)[w.pick(3)]
    transposed = w.one("", ".trans")
    names = "{" + ", ".join(w.distinct("R", count)) + "}"
    first = ", ".join(w.register("R") for _ in range(4))
    return step(
        "bar.sync 0;",
        f"st.shared.v4.b32 [%swap], {{{first}}};",
        "bar.sync 0;",
        f"and.b32 %t0, {w.register('R')}, 31;",
        "mad.lo.u32 %t0, %t0, 16, %swaps;",
        f"ldmatrix.sync.aligned.m8n8.x{count}{transposed}.shared.b16 {names}, [%t0];",
        "bar.sync 0;",
    )


def store_matrix(w: Writer) -> Step:
    """To rows of this warp, each lane's address another one; then each thread reads its row."""
    count = (1, 2, 4)[w.pick(3)]
    transposed = w.one("", ".trans")
    values = "{" + ", ".join(w.register("R") for _ in range(count)) + "}"
    first = ", ".join(w.register("R") for _ in range(4))
    return step(
        "bar.sync 0;",
        f"st.shared.v4.b32 [%swap], {{{first}}};",
        "bar.sync 0;",
        "mov.u32 %t0, %laneid;",
        f"mad.lo.u32 %t0, %t0, {2 * w.pick(16) + 1}, {w.pick(32)};",
        "and.b32 %t0, %t0, 31;",
        "and.b32 %t1, %tx, -32;",
        "add.u32 %t0, %t0, %t1;",
        "mad.lo.u32 %t0, %t0, 16, %swaps;",
        f"stmatrix.sync.aligned.m8n8.x{count}{transposed}.shared.b16 [%t0], {values};",
        "bar.sync 0;",
        f"ld.shared.v2.b32 {{{', '.join(w.distinct('R', 2))}}}, [%swap+{8 * w.pick(2)}];",
        "bar.sync 0;",
    )


def transpose(w: Writer) -> Step:
    return step("bar.warp.sync -1;", f"movmatrix.sync.aligned.m8n8.trans.b16 {w.register('R')}, {w.register('R')};")
