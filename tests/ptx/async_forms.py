"""Kernels of matrices and of asynchronous copies: sparse mma, wgmma, bulk and tensor copies, mbarriers, clusters."""

from __future__ import annotations

from collections.abc import Iterator

from forms import Random
from memory_forms import Program, per_thread, program

SPARSE_META = {"f16": (4, 8, 9, 12, 13, 14), "tf32": (4, 14)}


def sparse_and_old_matrices() -> Iterator[Program]:
    """mma with a sparse A, and m8n8k4 of f16."""

    def fragments(counts: tuple[int, int, int], kinds: tuple[str, str, str]) -> tuple[list[str], list[str]]:
        body, groups, first = [], [], 0
        for count, base in zip(counts, ("%in", "%in2", "%in2"), strict=True):
            group = [f"%r{first + i}" for i in range(count)]
            shift = 0 if base == "%in" or first == counts[0] else 1024
            body += [
                f"mad.wide.u32 %a, %t, {4 * count}, {base};",
                *[f"ld.global.b32 {g}, [%a+{shift + 4 * i}];" for i, g in enumerate(group)],
            ]
            groups.append("{" + ", ".join(group) + "}")
            first += count
        return body, groups

    table = (
        ("m16n8k16", "f32.f16.f16.f32", "small_f16", "f16", (2, 2, 4)),
        ("m16n8k32", "f32.f16.f16.f32", "small_f16", "f16", (4, 4, 4)),
        ("m16n8k16", "f32.bf16.bf16.f32", "small_bf16", "f16", (2, 2, 4)),
        ("m16n8k32", "f32.bf16.bf16.f32", "small_bf16", "f16", (4, 4, 4)),
        ("m16n8k8", "f32.tf32.tf32.f32", "small_f32", "tf32", (2, 2, 4)),
        ("m16n8k16", "f32.tf32.tf32.f32", "small_f32", "tf32", (4, 4, 4)),
        ("m16n8k32", "s32.s8.s8.s32", "bytes", "f16", (2, 2, 4)),
        ("m16n8k64", "s32.u8.s8.s32", "bytes", "f16", (4, 4, 4)),
        ("m16n8k64", "f32.e4m3.e5m2.f32", "small_e4m3", "f16", (4, 4, 4)),
        ("m16n8k32", "f16.f16.f16.f16", "small_f16", "f16", (4, 4, 2)),
    )
    for shape, types, kind, meta, counts in table:
        for selector in (0, 1) if (counts[0] == 2 or meta == "tf32") else (0,):
            if types.startswith("s32") and shape == "m16n8k64" and selector:
                continue
            random = Random(len(shape + types) + selector)
            nibbles = SPARSE_META[meta]
            body, groups = fragments(counts, ("a", "b", "c"))
            choice = "".join(f"{nibbles[random.next() % len(nibbles)]:x}" for _ in range(8))
            other = "".join(f"{nibbles[random.next() % len(nibbles)]:x}" for _ in range(8))
            body += [
                f"mov.b32 %r60, 0x{choice};",
                "and.b32 %r61, %t, 3;",
                "setp.gt.u32 %p1, %r61, 1;",
                f"@%p1 mov.b32 %r60, 0x{other};",
                "and.b32 %r61, %t, 4;",
                "setp.ne.u32 %p1, %r61, 0;",
                "@%p1 shf.l.wrap.b32 %r60, %r60, %r60, 8;",
            ]
            d = groups[2]
            opcode = f"mma.sp::ordered_metadata.sync.aligned.{shape}.row.col.{types}"
            body += [f"{opcode} {d}, {groups[0]}, {groups[1]}, {d}, %r60, {selector};"]
            n = counts[2]
            body += [
                *per_thread(4 * n),
                *[f"st.global.b32 [%a+{4 * i}], %r{counts[0] + counts[1] + i};" for i in range(n)],
            ]
            small = "small_f32" if types.startswith("f32") else kind
            rounded = {"element": "f32", "relative": 2.0**-12, "absolute": 2.0**-12}
            yield program(
                f"mma.sp.{shape}.{types} selector {selector}",
                body,
                [f"{kind}:4096.11", f"{kind}:4096.12"] if small == kind else [f"{kind}:4096.11", f"{kind}:4096.13"],
                128 * n,
                # C is what these pools make of it: not whole numbers.
                **(rounded if types in ("f32.f16.f16.f32", "f32.e4m3.e5m2.f32") else {}),
            )
    for d_type in ("f32", "f16"):
        for a_layout in ("row", "col"):
            for b_layout in ("row", "col"):
                n = 8 if d_type == "f32" else 4
                body, groups = fragments((2, 2, n), ("f16", "f16", d_type))
                if d_type == "f32":
                    body += [f"mov.b32 %r{4 + i}, {hex(0x3F800000 + (i << 20))};" for i in range(8)]
                opcode = f"mma.sync.aligned.m8n8k4.{a_layout}.{b_layout}.{d_type}.f16.f16.{d_type}"
                body += [
                    f"{opcode} {groups[2]}, {groups[0]}, {groups[1]}, {groups[2]};",
                    *per_thread(4 * n),
                    *[f"st.global.b32 [%a+{4 * i}], %r{4 + i};" for i in range(n)],
                ]
                yield program(
                    f"mma.m8n8k4.{a_layout}.{b_layout}.{d_type}",
                    body,
                    ["small_f16:4096.14", "small_f16:4096.15"],
                    128 * n,
                )


def wgmma() -> Iterator[Program]:
    swizzle_of = {0: 0, 32: 3, 64: 2, 128: 1}
    size = 40960
    table = []
    for n in (8, 24, 64, 128, 256):
        table += [("f16", "f16", "f32", n, 16), ("bf16", "bf16", "f32", n, 16)]
    for n in (16, 96, 192):
        table += [
            ("f16", "f16", "f16", n, 16),
            ("tf32", "tf32", "f32", n, 8),
            ("e4m3", "e4m3", "f32", n, 32),
            ("e5m2", "e4m3", "f32", n, 32),
            ("e4m3", "e5m2", "f16", n, 32),
            ("s8", "s8", "s32", n, 32),
            ("u8", "s8", "s32", n, 32),
            ("s8", "u8", "s32", n, 32),
        ]
    table += [("u8", "u8", "s32", 64, 32), ("tf32", "tf32", "f32", 8, 8), ("e5m2", "e5m2", "f32", 32, 32)]
    random = Random(77)
    for a, b, d, n, k in table:
        for source in ("memory", "registers"):
            for swizzle in (0, 32, 64, 128):
                r = random.next()
                transposes = ((0, 0), (1, 0), (0, 1), (1, 1)) if a in ("f16", "bf16") else ((0, 0),)
                ta, tb = transposes[r % len(transposes)]
                if source == "registers":
                    ta = 0
                # All answers of one operand source are alike: one swizzle of two is enough for wide ones.
                if n > 64 and r >> 8 & 1:
                    continue
                scale_d = r >> 10 & 1
                negate_a, negate_b = (-1 if r >> 11 & 3 == 0 else 1), (-1 if r >> 13 & 3 == 0 else 1)
                element = {"f16": "f16", "bf16": "bf16", "tf32": "f32", "e4m3": "e4m3", "e5m2": "e5m2"}.get(a, "")
                kind = f"small_{element}" if element else "bytes"
                if b == "e5m2" and a == "e4m3":
                    kind = "small_e5m2"  # as e4m3 these bytes are whole numbers and halves too
                registers = {"f32": n // 2, "s32": n // 2, "f16": n // 4}[d]
                lead, stride = (r >> 16) % 4 * 128 + 128, (128, 256, 512, 1024)[(r >> 20) % 4]
                if swizzle:
                    lead, stride = (1, 1024 if tb or ta else (8 * swizzle))[0:2]
                    lead = (8 * swizzle) if (ta or tb) else 16
                    stride = 8 * swizzle if not (ta or tb) else 1024
                offset_a, offset_b = 1024 * ((r >> 24) % 3), 1024 * ((r >> 28) % 5)
                body = [
                    "mov.u32 %r290, s;",
                    f"mad.lo.u32 %r291, %t, {size // 128}, %r290;",
                    f"mad.wide.u32 %a, %t, {size // 128}, %in;",
                ]
                body += [
                    line
                    for i in range(0, size // 128, 16)
                    for line in (
                        f"ld.global.v4.b32 {{%r1, %r2, %r3, %r4}}, [%a+{i}];",
                        f"st.shared.v4.b32 [%r291+{i}], {{%r1, %r2, %r3, %r4}};",
                    )
                ]
                body += ["fence.proxy.async;", "bar.sync 0;"]
                for name, offset in (("%d1", offset_a), ("%d2", offset_b)):
                    high = (lead >> 4) << 16 | (stride >> 4) << 32 | swizzle_of[swizzle] << 62
                    body += [
                        f"add.u32 %r292, %r290, {offset};",
                        "shr.u32 %r292, %r292, 4;",
                        f"cvt.u64.u32 {name}, %r292;",
                        f"or.b64 {name}, {name}, {hex(high)};",
                    ]
                mad = "%p1"
                zero = "0x3c003c00" if d == "f16" else "0x40000000" if d == "f32" else "5"
                body += [f"mov.b32 %r{10 + i}, {zero};" for i in range(registers)]
                body += [f"setp.ne.b32 {mad}, {scale_d}, 0;"]
                if source == "registers":
                    body += ["mad.wide.u32 %a, %t, 16, %in;", "ld.global.v4.b32 {%r1, %r2, %r3, %r4}, [%a];"]
                group = "{" + ", ".join(f"%r{10 + i}" for i in range(registers)) + "}"
                left = "%d1" if source == "memory" else "{%r1, %r2, %r3, %r4}"
                tail = f", {mad}"
                if d != "s32":
                    tail += f", {negate_a}, {negate_b}"
                    if a in ("f16", "bf16"):
                        tail += f", {ta}, {tb}" if source == "memory" else f", {tb}"
                body += [
                    "wgmma.fence.sync.aligned;",
                    f"wgmma.mma_async.sync.aligned.m64n{n}k{k}.{d}.{a}.{b} {group}, {left}, %d2{tail};",
                    "wgmma.commit_group.sync.aligned;",
                    "wgmma.wait_group.sync.aligned 0;",
                    *per_thread(4 * registers),
                ]
                body += [f"st.global.b32 [%a+{4 * i}], %r{10 + i};" for i in range(registers)]
                text = f"wgmma.m64n{n}k{k}.{d}.{a}.{b} {source} {swizzle} {ta}{tb} {lead}/{stride}"
                yield program(text, body, [f"{kind}:{size}.20"], 128 * 4 * registers, 128, size)
    for a, tolerance in (("f16", 2.0**-14), ("bf16", 2.0**-14), ("tf32", 2.0**-13)):
        k = 8 if a == "tf32" else 16
        high = 1 << 16 | 64 << 32 | 1 << 62
        body = ["mov.u32 %r290, s;", "mad.lo.u32 %r291, %t, 256, %r290;", "mad.wide.u32 %a, %t, 256, %in;"]
        body += [
            line
            for i in range(0, 256, 16)
            for line in (
                f"ld.global.v4.b32 {{%r1, %r2, %r3, %r4}}, [%a+{i}];",
                f"st.shared.v4.b32 [%r291+{i}], {{%r1, %r2, %r3, %r4}};",
            )
        ]
        body += [
            "fence.proxy.async;",
            "bar.sync 0;",
            "shr.u32 %r292, %r290, 4;",
            "cvt.u64.u32 %d1, %r292;",
            f"or.b64 %d1, %d1, {hex(high)};",
            "add.u64 %d2, %d1, 512;",
        ]
        body += [f"mov.b32 %r{10 + i}, 0;" for i in range(32)] + ["setp.ne.b32 %p1, 1, 0;", "wgmma.fence.sync.aligned;"]
        group = "{" + ", ".join(f"%r{10 + i}" for i in range(32)) + "}"
        for _ in range(4):
            tail = ", 1, 1, 0, 0" if a != "tf32" else ", 1, 1"
            body += [
                f"wgmma.mma_async.sync.aligned.m64n64k{k}.f32.{a}.{a} {group}, %d1, %d2, %p1{tail};",
                "add.u64 %d1, %d1, 2;",
                "add.u64 %d2, %d2, 2;",
            ]
        body += ["wgmma.commit_group.sync.aligned;", "wgmma.wait_group.sync.aligned 0;", *per_thread(128)]
        body += [f"st.global.b32 [%a+{4 * i}], %r{10 + i};" for i in range(32)]
        yield program(
            f"wgmma of {a}, four steps of depth",
            body,
            [f"tame_{'f32' if a == 'tf32' else a}:32768.21"],
            128 * 128,
            128,
            32768,
            element="f32",
            absolute=64 * tolerance,
            relative=tolerance,
        )


# Bounded: a form whose bytes are not what the barrier was told must not hang the GPU.
WAIT = [
    "mov.b32 %r250, 0;",
    "WAIT:",
    "mbarrier.test_wait.parity.shared::cta.b64 %p2, [%r201], 0;",
    "@%p2 bra CAME;",
    "add.u32 %r250, %r250, 1;",
    "setp.lt.u32 %p5, %r250, 300000;",
    "@%p5 bra WAIT;",
    "CAME:",
]


def bulk_copies() -> Iterator[Program]:
    wait = WAIT
    start = [
        "mov.u32 %r200, s;",
        "add.u32 %r201, %r200, 8192;",
        "setp.eq.u32 %p1, %t, 0;",
        "@%p1 mbarrier.init.shared::cta.b64 [%r201], 1;",
        "fence.mbarrier_init.release.cluster;",
        "fence.proxy.async;",
        "bar.sync 0;",
    ]
    dump = [
        "mad.lo.u32 %r202, %t, 16, %r200;",
        *per_thread(16),
        "ld.shared.v4.b32 {%r1, %r2, %r3, %r4}, [%r202];",
        "st.global.v4.b32 [%a], {%r1, %r2, %r3, %r4};",
    ]
    for size in (16, 48, 512, 2048):
        body = [
            *start,
            "mad.lo.u32 %r202, %t, 16, %r200;",
            "mov.b32 %r1, 0x5a5a5a5a;",
            "st.shared.v4.b32 [%r202], {%r1, %r1, %r1, %r1};",
            "fence.proxy.async;",
            "bar.sync 0;",
            f"@%p1 mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r201], {size};",
            f"@%p1 cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%r200], [%in], {size}, [%r201];",
            *wait,
            *dump,
        ]
        yield program(f"cp.async.bulk to shared, {size}", body, ["bytes:2048.30"], 2048, 128, 8704)
    fill = [
        "mad.lo.u32 %r202, %t, 16, %r200;",
        *per_thread(16, "%in"),
        "ld.global.v4.b32 {%r1, %r2, %r3, %r4}, [%a];",
        "st.shared.v4.b32 [%r202], {%r1, %r2, %r3, %r4};",
        "fence.proxy.async;",
        "bar.sync 0;",
    ]
    finish = ["@%p1 cp.async.bulk.commit_group;", "@%p1 cp.async.bulk.wait_group 0;", "bar.sync 0;"]
    for size in (16, 528, 2048):
        yield program(
            f"cp.async.bulk to global, {size}",
            [*start, *fill, f"@%p1 cp.async.bulk.global.shared::cta.bulk_group [%out], [%r200], {size};", *finish],
            ["bytes:2048.31"],
            2048,
            128,
            8704,
        )
    for op, kinds in {
        "add": ("u32", "s32", "u64", "f16", "bf16"),
        "min": ("u32", "s32", "u64", "s64", "f16", "bf16"),
        "max": ("u32", "s32", "u64", "s64", "f16", "bf16"),
        "and": ("b32", "b64"),
        "or": ("b32", "b64"),
        "xor": ("b32", "b64"),
        "inc": ("u32",),
        "dec": ("u32",),
    }.items():
        for kind in kinds:
            text = (
                f"cp.reduce.async.bulk.global.shared::cta.bulk_group.{op}"
                + (".noftz" if kind in ("f16", "bf16") and op == "add" else "")
                + f".{kind}"
            )
            source = {"f16": "tame_f16:2048.32", "bf16": "tame_bf16:2048.32"}.get(kind, "bytes:2048.32")
            first = {"f16": "tame_f16:2048.33", "bf16": "tame_bf16:2048.33"}.get(kind, "bytes:2048.33")
            yield program(
                text,
                [*start, *fill, f"@%p1 {text} [%out], [%r200], 1024;", *finish],
                [source],
                2048,
                128,
                8704,
                start=first,
            )
    for kind in ("f32", "f64"):
        text = f"cp.reduce.async.bulk.global.shared::cta.bulk_group.add.{kind}"
        yield program(
            text,
            [*start, *fill, f"@%p1 {text} [%out], [%r200], 1024;", *finish],
            [f"{kind}.1"],
            256 * (4 if kind == "f32" else 8),
            64,
            8704,
            start=f"{kind}.2",
        )
    barrier = [
        "mov.u32 %r200, s;",
        "setp.eq.u32 %p1, %t, 0;",
        "@%p1 mbarrier.init.shared.b64 [%r200], 4;",
        "bar.sync 0;",
    ]
    steps = [*barrier, "@!%p1 bra DONE;", *per_thread(4)]
    at = 0

    def note(value: str) -> None:
        nonlocal at
        steps.extend([f"st.global.b32 [%a+{at}], {value};"])
        at += 4

    for i in range(9):
        steps += [f"mbarrier.arrive.shared.b64 %d{i + 1}, [%r200];", f"mbarrier.pending_count.b64 %r1, %d{i + 1};"]
        note("%r1")
        for parity in (0, 1):
            steps += [f"mbarrier.test_wait.parity.shared.b64 %p2, [%r200], {parity};", "selp.u32 %r2, 1, 0, %p2;"]
            note("%r2")
        steps += [f"mbarrier.test_wait.shared.b64 %p2, [%r200], %d{i + 1};", "selp.u32 %r2, 1, 0, %p2;"]
        note("%r2")
        if i == 5:
            steps += ["mbarrier.arrive_drop.shared.b64 %d40, [%r200];", "mbarrier.pending_count.b64 %r1, %d40;"]
            note("%r1")
    steps += [
        "mbarrier.expect_tx.relaxed.cta.shared::cta.b64 [%r200], 64;",
        "mbarrier.arrive.noComplete.shared.b64 %d41, [%r200], 1;",
        "mbarrier.pending_count.b64 %r1, %d41;",
    ]
    note("%r1")
    steps += [
        "mbarrier.complete_tx.relaxed.cta.shared::cta.b64 [%r200], 64;",
        "mbarrier.test_wait.parity.shared.b64 %p2, [%r200], 0;",
        "selp.u32 %r2, 1, 0, %p2;",
    ]
    note("%r2")
    steps += ["DONE:"]
    yield program("mbarrier phases", steps, [], at, 32, 64)


ELEMENTS = {
    "u8": (0, 1),
    "u16": (1, 2),
    "u32": (2, 4),
    "s32": (3, 4),
    "u64": (4, 8),
    "s64": (5, 8),
    "f16": (6, 2),
    "f32": (7, 4),
    "f32_ftz": (8, 4),
    "f64": (9, 8),
    "bf16": (10, 2),
    "tf32": (11, 4),
    "tf32_ftz": (12, 4),
}


def tensor_map(
    pointer: str,
    dims: list[int],
    strides: list[int],
    box: list[int],
    element: str,
    swizzle: int,
    fill: int,
    steps: list[int],
) -> list[str]:
    """Makes a map in shared memory at %r210 and moves it to the front of the answer's last 128 bytes (%d60)."""
    lines = [
        "mad.lo.u32 %r211, %t, 4, %r210;",
        "setp.lt.u32 %p3, %t, 32;",
        "mov.b32 %r1, 0;",
        "@%p3 st.shared.b32 [%r211], %r1;",
        "bar.sync 0;",
        "@!%p1 bra MADE;",
        "cvt.u64.u32 %d61, %r210;",
    ]

    def put(what: str, bits: int, *values: str) -> None:
        lines.append(f"tensormap.replace.tile.{what}.shared::cta.b1024.b{bits} [%d61], {', '.join(values)};")

    put("global_address", 64, pointer)
    put("rank", 32, str(len(dims) - 1))
    for i, (d, b) in enumerate(zip(dims, box, strict=True)):
        put("box_dim", 32, str(i), str(b))
        put("global_dim", 32, str(i), str(d))
        put("element_stride", 32, str(i), str(steps[i]))
    for i, s in enumerate(strides):
        lines.append(f"mov.b64 %d62, {s};")
        put("global_stride", 64, str(i), "%d62")
    put("elemtype", 32, str(ELEMENTS[element][0]))
    put("interleave_layout", 32, "0")
    put("swizzle_mode", 32, str(swizzle))
    put("fill_mode", 32, str(fill))
    lines += [
        "MADE:",
        "bar.sync 0;",
        "@!%p3 bra PLACED;",
        "tensormap.cp_fenceproxy.global.shared::cta.tensormap::generic.release.gpu.sync.aligned [%d60], [%r210], 128;",
        "fence.proxy.tensormap::generic.acquire.gpu [%d60], 128;",
        "PLACED:",
        "bar.sync 0;",
    ]
    return lines


def tensors() -> Iterator[Program]:
    """Tensor copies: what shared (or global) memory holds; the map lies behind it and is zeroed at the end."""
    random = Random(5)
    shared = 16384
    forget = ["bar.sync 0;", "mad.wide.u32 %a, %t, 4, %d60;", "mov.b32 %r1, 0;", "@%p3 st.global.b32 [%a], %r1;"]
    start = [
        "mov.u32 %r200, s;",
        f"add.u32 %r201, %r200, {shared};",
        f"add.u32 %r210, %r200, {shared + 128};",
        "setp.eq.u32 %p1, %t, 0;",
        "@%p1 mbarrier.init.shared::cta.b64 [%r201], 1;",
        "fence.mbarrier_init.release.cluster;",
        "fence.proxy.async;",
        "bar.sync 0;",
    ]

    def each_word(count: int, lines: list[str]) -> list[str]:
        """Lines for word %r202 of count words, shared address %r203, bytes offset %r204."""
        return [
            "mov.u32 %r202, %t;",
            f"setp.ge.u32 %p4, %r202, {count};",
            "@%p4 bra SKIP$;",
            "LOOP$:",
            "mul.lo.u32 %r204, %r202, 4;",
            "add.u32 %r203, %r200, %r204;",
            "cvt.u64.u32 %d63, %r204;",
            *lines,
            "add.u32 %r202, %r202, 128;",
            f"setp.lt.u32 %p4, %r202, {count};",
            "@%p4 bra LOOP$;",
            "SKIP$:",
        ]

    def loop(tag: str, count: int, lines: list[str]) -> list[str]:
        return [line.replace("$", tag) for line in each_word(count, lines)]

    def shapes(element: str, rank: int, swizzle: int) -> tuple[list[int], list[int], list[int]]:
        size = ELEMENTS[element][1]
        inner = {0: (16, 32, 64)[random.next() % 3], 1: 32, 2: 64, 3: 128}[swizzle] // size
        box = [max(1, inner // (1 if random.next() % 2 else 1))] + [
            (8, 4, 2, 2)[i] + random.next() % 2 for i in range(rank - 1)
        ]
        dims = [box[0] + random.next() % 24 + 1] + [b + random.next() % 4 for b in box[1:]]
        strides, at = [], (dims[0] * size + 15) // 16 * 16
        for d in dims[1:]:
            strides.append(at)
            at *= d
        return dims, strides, box

    cases = [
        (e, r, s, f)
        for e in ("u8", "f16", "f32", "bf16")
        for r in (1, 2, 3, 4, 5)
        for s in ((0, 1, 2, 3) if r in (2, 3) else (random.next() % 4,))
        for f in (0,)
    ]
    cases += [
        (e, 2, s, f)
        for e in ("f16", "f32", "f64", "bf16", "tf32", "f32_ftz", "tf32_ftz")
        for s in (0, 3)
        for f in (0, 1)
    ]
    cases += [(e, 2, 3, 0) for e in ("u16", "u32", "s32", "u64", "s64")]
    for number, (element, rank, swizzle, filling) in enumerate(cases):
        dims, strides, box = shapes(element, rank, swizzle)
        size = ELEMENTS[element][1]
        count = size
        for i, b in enumerate(box):
            box[i] = b = min(b, max(1, shared // count)) if i else b
            count *= b
        steps = [1] * rank
        if number % 5 == 4 and rank > 1:
            steps[1] = 2
            count = count // box[1] * ((box[1] + 1) // 2)
        # The first coordinate times the element's size has to be a multiple of 16: the GPU refuses others.
        position = [(-3, 0, 2, 5)[random.next() % 4] for _ in dims]
        position[0] = (-1, 0, 1, 2)[random.next() % 4] * 16 // size
        words = (count + 3) // 4
        total = 4 * words
        answer = (total + 127) // 128 * 128 + 128
        input_pool = f"bytes:{131072 if rank == 5 else 65536}.{40 + number % 3}"
        coordinates = ", ".join(str(p) for p in position)
        body = [
            *start,
            f"add.u64 %d60, %out, {answer - 128};",
            *tensor_map("%in", dims, strides, box, element, swizzle, filling, steps),
            *loop("A", words, ["mov.b32 %r5, 0xa5a5a5a5;", "st.shared.b32 [%r203], %r5;"]),
            "fence.proxy.async;",
            "bar.sync 0;",
            f"@%p1 mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r201], {count};",
            f"@%p1 cp.async.bulk.tensor.{rank}d.shared::cluster.global.tile.mbarrier::complete_tx::bytes"
            f" [%r200], [%d60, {{{coordinates}}}], [%r201];",
            *WAIT,
            *loop(
                "B", words, ["ld.shared.b32 %r5, [%r203];", "add.u64 %d64, %out, %d63;", "st.global.b32 [%d64], %r5;"]
            ),
            *forget,
        ]
        yield program(
            f"tensor load {element} {dims} box {box} step {steps[1:2]} at {position} swizzle {swizzle} fill {filling}",
            body,
            [input_pool],
            answer,
            128,
            shared + 512,
        )
    reductions = (
        [("", k) for k in ("u8", "f16", "f32", "u64")]
        + [("add", k) for k in ("u32", "s32", "u64", "f16", "bf16", "f32")]
        + [(op, k) for op in ("min", "max") for k in ("u32", "s32", "u64", "s64", "f16", "bf16")]
        + [(op, k) for op in ("and", "or", "xor") for k in ("u32", "u64")]
        + [(op, "u32") for op in ("inc", "dec")]
    )
    for number, (op, element) in enumerate(reductions):
        for swizzle in (0, 1 + number % 3):
            dims, strides, box = shapes(element, 2, swizzle)
            size = ELEMENTS[element][1]
            total = (strides[0] * dims[1] + 127) // 128 * 128
            answer = total + 128
            source = {"f16": "tame_f16", "bf16": "tame_bf16", "f32": "tame_f32"}.get(element, "bytes")
            position = [(-2, 0, 1, 3)[random.next() % 4] for _ in dims]
            position[0] = (-1, 0, 1, 2)[random.next() % 4] * 16 // size
            words = (box[0] * box[1] * size + 3) // 4
            verb = (
                f"cp.reduce.async.bulk.tensor.2d.global.shared::cta.{op}.tile.bulk_group"
                if op
                else "cp.async.bulk.tensor.2d.global.shared::cta.tile.bulk_group"
            )
            body = [
                *start,
                f"add.u64 %d60, %out, {answer - 128};",
                *tensor_map("%out", dims, strides, box, element, swizzle, 0, [1, 1]),
                *loop(
                    "A",
                    words,
                    ["add.u64 %d64, %in, %d63;", "ld.global.b32 %r5, [%d64];", "st.shared.b32 [%r203], %r5;"],
                ),
                "fence.proxy.async;",
                "bar.sync 0;",
                f"@%p1 {verb} [%d60, {{{position[0]}, {position[1]}}}], [%r200];",
                "@%p1 cp.async.bulk.commit_group;",
                "@%p1 cp.async.bulk.wait_group 0;",
                *forget,
            ]
            yield program(
                f"tensor {op or 'store'} {element} {dims} box {box} at {position} swizzle {swizzle}",
                body,
                [f"{source}:65536.50"],
                answer,
                128,
                shared + 512,
                start=f"{source}:{answer}.51",
            )


def clusters() -> Iterator[Program]:
    """Two CTAs that read each other's shared memory."""
    body = [
        "mov.u32 %r200, s;",
        "mov.u32 %r1, %cluster_ctarank;",
        "mad.lo.u32 %r2, %r1, 32, %t;",
        "mad.wide.u32 %a, %r2, 4, %in;",
        "ld.global.b32 %r3, [%a];",
        "mad.lo.u32 %r4, %t, 4, %r200;",
        "st.shared.b32 [%r4], %r3;",
        "barrier.cluster.arrive.release.aligned;",
        "barrier.cluster.wait.acquire.aligned;",
        "xor.b32 %r5, %r1, 1;",
        "mapa.shared::cluster.u32 %r6, %r4, %r5;",
        "ld.shared::cluster.b32 %r7, [%r6];",
        "barrier.cluster.arrive.aligned;",
        "barrier.cluster.wait.aligned;",
        "atom.shared::cluster.add.u32 %r8, [%r6], %r3;",
        "barrier.cluster.arrive.aligned;",
        "barrier.cluster.wait.aligned;",
        "ld.shared.b32 %r9, [%r4];",
        "getctarank.shared::cluster.u32 %r10, %r6;",
        "mov.u32 %r11, %clusterid.x;",
        "mad.lo.u32 %r12, %r11, 2, %r1;",
        "mad.lo.u32 %r12, %r12, 32, %t;",
        "mad.wide.u32 %a, %r12, 16, %out;",
        "st.global.v4.b32 [%a], {%r7, %r8, %r9, %r10};",
    ]
    yield program(
        "clusters of two",
        body,
        ["bytes:512.60"],
        64 * 16,
        32,
        256,
        directive=".reqnctapercluster 2, 1, 1",
        check={"grid": 2},
    )


def programs() -> list[Program]:
    found: list[Program] = []
    for family in (sparse_and_old_matrices, wgmma, bulk_copies, tensors, clusters):
        found.extend(family())
    return found
