"""Programs of wmma and of wgmma with a sparse A. What a fragment of wmma holds where is the GPU's own business, so a
program goes from memory to memory."""

from __future__ import annotations

from collections.abc import Iterator

from forms import Random
from memory_forms import Program, per_thread, program

# (M, N, K), operands' type, pool, types of D and C.
SHAPES = ((16, 16, 16), (8, 32, 16), (32, 8, 16))
WMMA = (
    *(
        (s, "f16", "f16", "small_f16", d, c)
        for s in SHAPES
        for d, c in (("f32", "f32"), ("f16", "f16"), ("f16", "f32"), ("f32", "f16"))
    ),
    *((s, "bf16", "bf16", "small_bf16", "f32", "f32") for s in SHAPES),
    *((s, a, a, "bytes", "s32", "s32") for s in SHAPES for a in ("s8", "u8")),
    ((16, 16, 8), "tf32", "tf32", "small_f32", "f32", "f32"),
    ((8, 8, 4), "f64", "f64", "small_f64", "f64", "f64"),
    ((8, 8, 32), "s4", "s4", "bytes", "s32", "s32"),
    ((8, 8, 32), "u4", "u4", "bytes", "s32", "s32"),
    ((8, 8, 128), "b1", "b1", "bytes", "s32", "s32"),
)
BITS = {"f16": 16, "bf16": 16, "tf32": 32, "f32": 32, "s32": 32, "f64": 64, "s8": 8, "u8": 8, "s4": 4, "u4": 4, "b1": 1}


def registers(rows: int, columns: int, kind: str, accumulator: bool) -> int:
    if kind == "f16" and not accumulator:
        return 8
    return rows * columns * BITS[kind] // (32 * (64 if kind == "f64" else 32))


def wmma() -> Iterator[Program]:
    random = Random(91)
    for (m, n, k), a, b, pool, d, c in WMMA:
        small = BITS[a] < 8
        layouts = [("row", "col")] if small else [(x, y) for x in ("row", "col") for y in ("row", "col")]
        for layout_a, layout_b in layouts:
            for variant in ("", ".satfinite") if d == "s32" and a != "b1" else ("and", "xor") if a == "b1" else ("",):
                r = random.next()
                space, layout_c, layout_d = "", ("row", "col")[r & 1], ("row", "col")[r >> 1 & 1]
                if r >> 2 & 1:
                    space = ".global"
                more = 0 if r >> 3 & 1 else 128 // BITS[a] if BITS[a] < 64 else 2  # longer lines than need be
                shape, count, letter = f"m{m}n{n}k{k}", 0, "%d" if d == "f64" else "%r"
                body: list[str] = []
                groups: dict[str, str] = {}
                for which, rows, columns, kind, layout in (
                    ("a", m, k, a, layout_a),
                    ("b", k, n, b, layout_b),
                    ("c", m, n, c, layout_c),
                ):
                    size = registers(rows, columns, kind, which == "c")
                    groups[which] = "{" + ", ".join(f"{letter}{10 + count + i}" for i in range(size)) + "}"
                    count += size
                    base = {"a": "%in", "b": "%in", "c": "%in2"}[which]
                    offset = 4096 if which == "b" else 0
                    line = columns if layout == "row" else rows
                    stride = "" if which == "c" or not more else f", {line + more}"
                    body += [
                        f"wmma.load.{which}.sync.aligned.{layout}.{shape}{space}.{kind} {groups[which]}, "
                        f"[{base}+{offset}]{stride};"
                    ]
                size = registers(m, n, d, True)
                groups["d"] = "{" + ", ".join(f"{letter}{10 + count + i}" for i in range(size)) + "}"
                if a == "b1":
                    opcode = f"wmma.mma.{variant}.popc.sync.aligned.row.col.{shape}.s32.b1.b1.s32"
                elif a == "f16":
                    opcode = f"wmma.mma.sync.aligned.{layout_a}.{layout_b}.{shape}.{d}.{c}"
                elif a == "f64":
                    opcode = f"wmma.mma.sync.aligned.{layout_a}.{layout_b}.{shape}.rn.f64.f64.f64.f64"
                else:
                    opcode = f"wmma.mma.sync.aligned.{layout_a}.{layout_b}.{shape}.{d}.{a}.{b}.{c}{variant}"
                stride_d = (n if layout_d == "row" else m) + (8 if r >> 4 & 1 else 0)
                body += [
                    f"{opcode} {groups['d']}, {groups['a']}, {groups['b']}, {groups['c']};",
                    f"wmma.store.d.sync.aligned.{layout_d}.{shape}{space}.{d} [%out], {groups['d']}, {stride_d};",
                ]
                answer = stride_d * (m if layout_d == "row" else n) * BITS[d] // 8
                c_pool = {"f32": "small_f32", "f16": "small_f16", "f64": "small_f64", "s32": "bytes"}[c]
                layouts_of_all = f"{layout_a} {layout_b} {variant} {layout_c} {layout_d}"
                name = f"wmma.{shape}.{d}.{a}.{c} {layouts_of_all} {more} {stride_d}"
                yield program(name, body, [f"{pool}:16384.31", f"{c_pool}:8192.32"], answer)


def sparse_wgmma() -> Iterator[Program]:
    swizzle_of = {0: 0, 32: 3, 64: 2, 128: 1}
    size = 49152
    random = Random(55)
    table = [(a, a, "f32", n) for a in ("f16", "bf16") for n in (8, 64, 256)]
    table += [("tf32", "tf32", "f32", 64), ("f16", "f16", "f16", 96)]
    table += [("e4m3", "e4m3", "f32", 64), ("e5m2", "e5m2", "f16", 32)]
    table += [("s8", "u8", "s32", 64), ("u8", "s8", "s32", 16), ("s8", "s8", "s32", 128)]
    for a, b, d, n in table:
        bits = BITS.get(a, 8)
        k = 512 // bits
        for source in ("memory", "registers"):
            for swizzle in (0, 32, 64, 128):
                for selector in (0, 1) if bits >= 16 else (0,):
                    r = random.next()
                    if n > 64 and r & 1:
                        continue
                    half = a in ("f16", "bf16")
                    ta = r >> 1 & 1 if half and source == "memory" else 0
                    tb = r >> 2 & 1 if half else 0
                    count = {"f32": n // 2, "s32": n // 2, "f16": n // 4}[d]
                    element = {"f16": "f16", "bf16": "bf16", "tf32": "f32", "e4m3": "e4m3", "e5m2": "e5m2"}.get(a, "")
                    kind = f"small_{element}" if element else "bytes"
                    body = [
                        "mov.u32 %r290, s;",
                        f"mad.lo.u32 %r291, %t, {size // 128}, %r290;",
                        f"mad.wide.u32 %a, %t, {size // 128}, %in;",
                    ]
                    for i in range(0, size // 128, 16):
                        body += [
                            f"ld.global.v4.b32 {{%r1, %r2, %r3, %r4}}, [%a+{i}];",
                            f"st.shared.v4.b32 [%r291+{i}], {{%r1, %r2, %r3, %r4}};",
                        ]
                    body += ["fence.proxy.async;", "bar.sync 0;"]
                    for name, transposed, offset in (("%d1", ta, 0), ("%d2", tb, 12288)):
                        lead, stride = (r >> 16) % 4 * 128 + 128, (128, 256, 512, 1024)[(r >> 20) % 4]
                        if swizzle:
                            lead = 8 * swizzle * (4 if transposed else 16)
                            stride = 8 * swizzle
                        high = (lead >> 4) << 16 | (stride >> 4) << 32 | swizzle_of[swizzle] << 62
                        body += [
                            f"add.u32 %r292, %r290, {offset};",
                            "shr.u32 %r292, %r292, 4;",
                            f"cvt.u64.u32 {name}, %r292;",
                            f"or.b64 {name}, {name}, {hex(high)};",
                        ]
                    zero = "0x3c003c00" if d == "f16" else "0x40000000" if d == "f32" else "5"
                    body += [f"mov.b32 %r{10 + i}, {zero};" for i in range(count)]
                    body += [f"setp.ne.b32 %p1, {r >> 10 & 1}, 0;"]
                    if source == "registers":
                        body += ["mad.wide.u32 %a, %t, 16, %in;", "ld.global.v4.b32 {%r1, %r2, %r3, %r4}, [%a];"]
                    # Metadata that differs from lane to lane; every nibble is one that the type may have.
                    nibbles = (4, 14) if a == "tf32" else (4, 8, 9, 12, 13, 14)
                    words = ["".join(f"{nibbles[random.next() % len(nibbles)]:x}" for _ in range(8)) for _ in range(2)]
                    body += [
                        f"mov.b32 %r293, 0x{words[0]};",
                        "and.b32 %r294, %t, 3;",
                        "setp.gt.u32 %p2, %r294, 1;",
                        f"@%p2 mov.b32 %r293, 0x{words[1]};",
                        "shr.u32 %r294, %t, 2;",
                        "and.b32 %r294, %r294, 7;",
                        "shl.b32 %r294, %r294, 2;",
                        "shf.l.wrap.b32 %r293, %r293, %r293, %r294;",
                    ]
                    group = "{" + ", ".join(f"%r{10 + i}" for i in range(count)) + "}"
                    left = "%d1" if source == "memory" else "{%r1, %r2, %r3, %r4}"
                    tail = ", %p1"
                    if d != "s32":
                        tail += ", 1, -1"
                        if half:
                            tail += f", {ta}, {tb}" if source == "memory" else f", {tb}"
                    form = f"m64n{n}k{k}.{d}.{a}.{b}"
                    body += [
                        "wgmma.fence.sync.aligned;",
                        f"wgmma.mma_async.sp.sync.aligned.{form} {group}, {left}, %d2, %r293, {selector}{tail};",
                        "wgmma.commit_group.sync.aligned;",
                        "wgmma.wait_group.sync.aligned 0;",
                        *per_thread(4 * count),
                        *[f"st.global.b32 [%a+{4 * i}], %r{10 + i};" for i in range(count)],
                    ]
                    name = f"sparse_wgmma.{form} {source} {swizzle} {ta}{tb} selector {selector}"
                    yield program(name, body, [f"{kind}:{size}.41"], 128 * 4 * count, 128, size)


def programs() -> list[Program]:
    return [*wmma(), *sparse_wgmma()]
