"""The cases that are compiled by every Triton for every architecture, loaded by the emulator, and run on it.

Imported by lower.py (with Triton, without NumPy) and by emulate.py (the other way round).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from corpus_cases import FLOATS, INTEGERS, TOLERANCE, Array, Buffer, Case, Version, limits
from elementwise import (
    CASTS,
    OF_INTEGERS,
    WORD,
    arithmetic_of_floats,
    arithmetic_of_integers,
    casts,
    libdevice,
    libdevice_of_integers,
    more_casts,
)


def reductions() -> Iterator[Case]:
    for kind, op in (
        [(k, "sum") for k in ("i8", "i32", "u32", "i64", *FLOATS)]
        + [(k, o) for k in ("i8", "i16", "i32", "u32", "i64", *FLOATS) for o in ("max", "min")]
        + [("i32", "xor"), ("i64", "xor"), ("fp32", "argmax"), ("fp16", "argmin"), ("i32", "argmax"), ("i64", "argmin")]
    ):
        result = "i32" if "arg" in op else {"i8": "i32", "u8": "u32", "i16": "i32"}.get(kind, kind)
        for axis, m, n, warps in ((1, 4, 64, 1), (0, 64, 32, 4), (1, 1, 1024, 8)):
            words = {
                "sum": "F.cast(x, '{0}').sum(axis={1})",
                "max": "x.max(axis={1})",
                "min": "x.min(axis={1})",
                "xor": "np.bitwise_xor.reduce(x, axis={1})",
                "argmax": "x.argmax(axis={1})",
                "argmin": "x.argmin(axis={1})",
            }
            text = words[op].format(result, axis)
            yield Case(
                f"reduce_{op}_{kind}_{axis}_{m}x{n}",
                "reduce_rows",
                {"x": f"*{kind}", "out": f"*{result}"},
                {"M": m, "N": n, "AXIS": axis, "OP": op},
                {"num_warps": warps},
                buffers={
                    "x": Buffer(kind, (m, n), "unit" if kind in FLOATS else "any"),
                    "out": Buffer(result, (n if axis == 0 else m,)),
                },
                reference=evaluate("out", text),
                tolerance=20 * TOLERANCE.get(kind, 0),
                absolute=20 * TOLERANCE.get(kind, 0),
                since=(3, 4) if (kind, op) == ("i8", "sum") else (3, 0),  # sums of bytes were bytes before
            )
    yield Case(
        "custom_reduce",
        "custom_reduce",
        {"x": "*i32", "out": "*i32"},
        {"N": 256},
        buffers={"x": Buffer("i32", (256,), "any"), "out": Buffer("i32", (1,))},
        reference=evaluate("out", "np.multiply.reduce(x)"),
    )
    for kind in ("fp32", "i32", "fp64"):
        yield Case(
            f"reduce_pair_{kind}",
            "reduce_pair",
            {"x": f"*{kind}", "out": f"*{kind}", "index": "*i32"},
            {"M": 8, "N": 64},
            buffers={"x": Buffer(kind, (8, 64), "small"), "out": Buffer(kind, (8,)), "index": Buffer("i32", (8,))},
            reference=evaluate("out", "x.max(axis=1)", "index", "x.argmax(axis=1)"),
        )


def evaluate(*pairs: str) -> Callable[[Any, dict[str, Array]], dict[str, Array]]:
    """References as NumPy text: name, text, name, text …; the text sees the buffers, np and F."""
    return lambda scope, buffers: {pairs[i]: scope(pairs[i + 1], buffers) for i in range(0, len(pairs), 2)}


def scans_and_sorts() -> Iterator[Case]:
    for kind in ("i32", "i64", "i8", "fp32", "fp16", "bf16", "fp64"):
        for op, axis, reverse in (("sum", 1, False), ("sum", 0, True), ("prod", 1, False), ("custom", 0, False)):
            if op != "sum" and kind in ("i8", "fp16", "bf16"):
                continue
            result = {"i8": "i32"}.get(kind, kind) if op == "sum" else kind
            base = f"F.cast(x, '{'fp64' if kind in FLOATS else result}')"
            flip = "[:, ::-1]" if axis == 1 and reverse else "[::-1]" if reverse else ""
            text = f"np.{'cumsum' if op == 'sum' else 'cumprod'}({base}{flip}, axis={axis}){flip}"
            yield Case(
                f"scan_{op}_{kind}_{axis}_{int(reverse)}",
                "scan_rows",
                {"x": f"*{kind}", "out": f"*{result}"},
                {"M": 32, "N": 64, "AXIS": axis, "OP": op, "REVERSE": reverse},
                {"num_warps": 4},
                since=(3, 4) if kind == "i8" else (3, 0),  # sums of bytes were bytes before
                buffers={"x": Buffer(kind, (32, 64), "unit"), "out": Buffer(result, (32, 64))},
                reference=evaluate("out", text),
                tolerance=20 * TOLERANCE.get(kind, 0),
                absolute=64 * TOLERANCE.get(kind, 0),
            )
    yield Case(
        "linear_recurrence",
        "linear_recurrence",
        {"a": "*fp32", "b": "*fp32", "out": "*fp32"},
        {"N": 256},
        buffers={
            "a": Buffer("fp32", (256,), "unit"),
            "b": Buffer("fp32", (256,), "unit"),
            "out": Buffer("fp32", (256,)),
        },
        reference=evaluate("out", "F.recurrence(a, b)"),
        tolerance=1e-4,
        absolute=1e-5,
    )
    for kind in ("i32", "fp32", "fp16", "i8", "i64", "bf16"):
        for descending in (False, True):
            yield Case(
                f"sort_{kind}_{int(descending)}",
                "sort_rows",
                {"x": f"*{kind}", "out": f"*{kind}"},
                {"M": 4, "N": 128, "DESCENDING": descending},
                buffers={"x": Buffer(kind, (4, 128), "small"), "out": Buffer(kind, (4, 128))},
                reference=evaluate("out", "np.sort(x, axis=1)" + ("[:, ::-1]" if descending else "")),
            )
    yield Case(
        "flip",
        "flip_rows",
        {"x": "*i32", "out": "*i32"},
        {"M": 4, "N": 64},
        buffers={"x": Buffer("i32", (4, 64), "any"), "out": Buffer("i32", (4, 64))},
        reference=evaluate("out", "x[:, ::-1]"),
    )
    for bins in (2, 16, 128, 512):
        yield Case(
            f"histogram_{bins}",
            "count",
            {"x": "*i32", "out": "*i32"},
            {"N": 1024, "BINS": bins},
            buffers={"x": Buffer("i32", (1024,), f"below {bins}"), "out": Buffer("i32", (bins,))},
            reference=evaluate("out", f"np.bincount(x, minlength={bins})"),
        )
    for axis in (0, 1):
        yield Case(
            f"gather_{axis}",
            "gather_rows",
            {"x": "*fp32", "index": "*i32", "out": "*fp32"},
            {"M": 32, "N": 64, "AXIS": axis},
            since=(3, 2),
            buffers={
                "x": Buffer("fp32", (32, 64), "unit"),
                "index": Buffer("i32", (32, 64), "below 32"),
                "out": Buffer("fp32", (32, 64)),
            },
            reference=evaluate("out", f"np.take_along_axis(x, index, {axis})"),
        )
    for kind in ("fp32", "fp16", "i8", "i64"):
        b = {
            n: Buffer(kind, s)
            for n, s in (
                ("joined", (8, 32, 2)),
                ("halves", (8, 32)),
                ("permuted", (32, 4, 2)),
                ("turned", (32, 8)),
                ("whole", (8, 64)),
            )
        }
        yield Case(
            f"shapes_{kind}",
            "shapes",
            {n: f"*{kind}" for n in ("x", "y", *b)},
            {"M": 8, "N": 32},
            buffers={"x": Buffer(kind, (8, 32), "small"), "y": Buffer(kind, (8, 32), "small"), **b},
            reference=evaluate(
                "joined",
                "np.stack([x, y], -1)",
                "halves",
                "x - y",
                "permuted",
                "x.reshape(4, 2, 32).transpose(2, 0, 1)",
                "turned",
                "x.T",
                "whole",
                "np.stack([x, y], -1).reshape(8, 64)",
            ),
        )
    yield Case(
        "concatenate",
        "concatenate",
        {"x": "*fp32", "y": "*fp32", "out": "*fp32"},
        {"N": 256},
        buffers={
            "x": Buffer("fp32", (256,), "unit"),
            "y": Buffer("fp32", (256,), "unit"),
            "out": Buffer("fp32", (512,)),
        },
        reference=evaluate("out", "F.any_order(np.concatenate([x, y]))"),
    )


ACCUMULATOR = {"i8": "i32", "u8": "i32", "fp64": "fp64"}


def dot(
    a: str,
    b: str,
    m: int,
    n: int,
    k: int,
    *,
    acc: str = "",
    warps: int = 4,
    ta: bool = False,
    tb: bool = False,
    precision: str = "tf32",
    bk: int = 0,
    **more: Any,
) -> Case:
    acc = acc or ACCUMULATOR.get(a, "fp32")
    name = f"dot_{a}{'t' if ta else ''}_{b}{'t' if tb else ''}_{acc}_{m}x{n}x{k}_{precision}_{warps}"
    tolerance = {
        "fp16": 4e-3,
        "bf16": 2e-2,
        "fp32": 2e-3 if precision == "tf32" else 1e-4 if precision == "bf16x3" else 1e-5,
        "fp64": 1e-12,
        "fp8e4nv": 1e-2,
        "fp8e5": 1e-2,
    }.get(a, 0)
    shape_a, shape_b = ((k, m) if ta else (m, k)), ((n, k) if tb else (k, n))
    text = f"c + F.product(a{'.T' if ta else ''}, b{'.T' if tb else ''})"
    return Case(
        name,
        "matmul",
        {"a": f"*{a}", "b": f"*{b}", "c": f"*{acc}", "out": f"*{acc}"},
        {"M": m, "N": n, "K": k, "BK": bk or k, "TA": ta, "TB": tb, "PRECISION": precision, "ACC": "tl." + WORD[acc]},
        {"num_warps": warps},
        buffers={
            "a": Buffer(a, shape_a, "unit"),
            "b": Buffer(b, shape_b, "unit"),
            "c": Buffer(acc, (m, n), "unit"),
            "out": Buffer(acc, (m, n)),
        },
        reference=evaluate("out", text),
        tolerance=tolerance,
        absolute=tolerance * (k if a == acc == "fp16" else 4),
        **more,
    )


def dots() -> Iterator[Case]:
    for kind in ("fp16", "bf16", "fp32", "i8"):
        for m, n, k, warps in (
            (16, 16, 32, 1),
            (32, 64, 64, 4),
            (64, 32, 32, 2),
            (64, 64, 64, 4),
            (128, 128, 32, 8),
            (64, 256, 32, 8),
            (128, 16, 64, 4),
        ):
            yield dot(kind, kind, m, n, k, warps=warps)
        for ta, tb in ((True, False), (False, True), (True, True)):
            yield dot(kind, kind, 64, 64, 64, ta=ta, tb=tb)
    yield dot("fp16", "fp16", 64, 64, 32, acc="fp16")
    yield dot("fp16", "fp16", 16, 32, 32, acc="fp16", warps=1)
    for precision in ("ieee", "tf32x3"):
        yield dot("fp32", "fp32", 64, 64, 32, precision=precision)
    for precision in ("bf16x3", "bf16x6"):
        yield dot("fp32", "fp32", 64, 64, 32, precision=precision, since=(3, 6))
    for a, b in (("fp8e4nv", "fp8e4nv"), ("fp8e4nv", "fp8e5"), ("fp8e5", "fp8e5")):
        for m, n, warps in ((32, 32, 1), (64, 64, 4), (128, 128, 8)):
            yield dot(a, b, m, n, 64, warps=warps, tb=m == 64, arch_from=89 if "fp8e4nv" in (a, b) else 80)
    yield dot("fp64", "fp64", 32, 32, 32, warps=4, arch_from=80, until=(99, 0))
    yield dot("fp16", "fp16", 64, 64, 128, bk=32)
    for kind in ("fp16", "fp32", "i8"):
        result = ACCUMULATOR.get(kind, "fp32")
        yield Case(
            f"batched_dot_{kind}",
            "batched_matmul",
            {"a": f"*{kind}", "b": f"*{kind}", "out": f"*{result}"},
            {"B": 4, "M": 32, "N": 32, "K": 32},
            buffers={
                "a": Buffer(kind, (4, 32, 32), "unit"),
                "b": Buffer(kind, (4, 32, 32), "unit"),
                "out": Buffer(result, (4, 32, 32)),
            },
            reference=evaluate("out", "F.product(a, b)"),
            tolerance=4e-3 if result == "fp32" else 0,
            absolute=4e-3,
        )
    for kind in ("fp16", "bf16", "fp32"):
        yield Case(
            f"chained_dots_{kind}",
            "chained_dots",
            {n: f"*{kind}" for n in ("a", "b", "c")} | {"out": "*fp32"},
            {"M": 64, "N": 64},
            buffers={
                "a": Buffer(kind, (64, 64), "unit"),
                "b": Buffer(kind, (64, 64), "unit"),
                "c": Buffer(kind, (64, 64), "unit"),
                "out": Buffer("fp32", (64, 64)),
            },
            reference=evaluate("out", "F.product(F.product(a, b), c.T)"),
            tolerance=3e-2,
            absolute=0.2,
        )
    for a, b in (
        ("e4m3", "e4m3"),
        ("e5m2", "e4m3"),
        ("e2m1", "e2m1"),
        ("e4m3", "e2m1"),
        ("bf16", "e4m3"),
        ("fp16", "e5m2"),
        ("bf16", "e2m1"),
    ):
        kinds = {"e4m3": "fp8e4nv", "e5m2": "fp8e5", "e2m1": "u8", "bf16": "bf16", "fp16": "fp16"}
        pack = {"e2m1": 2}
        scaled = {"a_scale": "*u8"} if a not in ("bf16", "fp16") else {}
        m, n, k = 64, 64, 64
        shape = {"a": (m, k // pack.get(a, 1)), "b": (k // pack.get(b, 1), n)}
        if not scaled:
            continue
        yield Case(
            f"dot_scaled_{a}_{b}",
            "scaled_matmul",
            {"a": f"*{kinds[a]}", **scaled, "b": f"*{kinds[b]}", "b_scale": "*u8", "out": "*fp32"},
            {"M": m, "N": n, "K": k, "A": a, "B": b, "A_PACK": pack.get(a, 1), "B_PACK": pack.get(b, 1)},
            since=(3, 2),
            arch_from=89 if "e4m3" in (a, b) else 80,
            buffers={
                "a": Buffer(kinds[a], shape["a"], "unit"),
                "b": Buffer(kinds[b], shape["b"], "unit"),
                "a_scale": Buffer("u8", (m, k // 32), "scale"),
                "b_scale": Buffer("u8", (n, k // 32), "scale"),
                "out": Buffer("fp32", (m, n)),
            },
            reference=evaluate("out", f"F.scaled_product(a, a_scale, '{a}', b, b_scale, '{b}')"),
            tolerance=1e-2,
            absolute=2e-2,
        )


def atomic_cases() -> Iterator[Case]:
    kinds = {
        "add": ("i32", "u32", "i64", "u64", "fp16", "bf16", "fp32", "fp64"),
        "max": ("i32", "u32", "i64", "fp32", "fp64"),
        "min": ("i32", "u32", "u64", "fp32"),
        "and": ("i32", "i64"),
        "or": ("i32", "u64"),
        "xor": ("i32", "i64"),
        "xchg": ("i32", "i64", "fp32", "fp64"),
    }
    words = {
        "add": "np.add",
        "max": "np.maximum",
        "min": "np.minimum",
        "and": "np.bitwise_and",
        "or": "np.bitwise_or",
        "xor": "np.bitwise_xor",
    }
    for op, types in kinds.items():
        for i, kind in enumerate(types):
            for cells, keep in ((512, True), (7, False)):
                sem = ("acq_rel", "relaxed", "acquire", "release")[i % 4]
                scope = ("gpu", "cta", "sys")[i % 3]
                text = f"F.scatter({words.get(op)}, out, x, {cells})"
                buffers = {
                    "x": Buffer(kind, (512,), "small"),
                    "out": Buffer(kind, (cells,), "small"),
                    "old": Buffer(kind, (512,)),
                }
                signature = {"x": f"*{kind}", "out": f"*{kind}"}
                # The scope of one program reaches no other.
                programs = 1 if scope == "cta" else 2
                constants: dict[str, Any] = {"N": 512 // programs, "CELLS": cells, "OP": op, "SEM": sem, "SCOPE": scope}
                if keep:
                    signature["old"] = f"*{kind}"
                    reference = (
                        evaluate("out", text, "old", "np.where(np.arange(512) % 3 != 0, out, old)")
                        if op != "xchg"
                        else evaluate(
                            "out",
                            "np.where(np.arange(512) % 3 != 0, x, out)",
                            "old",
                            "np.where(np.arange(512) % 3 != 0, out, old)",
                        )
                    )
                else:
                    constants["old"] = None
                    del buffers["old"]
                    reference = evaluate("out", text) if op != "xchg" else None
                case = Case(
                    f"atomic_{op}_{kind}_{cells}",
                    "atomics",
                    signature,
                    constants,
                    buffers=buffers,
                    grid=(programs, 1, 1),
                    reference=reference,
                    tolerance=TOLERANCE.get(kind, 0),
                    arch_from=90 if kind == "bf16" else 75,
                )
                if kind == "fp16" and keep:
                    # Before 3.2 the mask of a pair's first half was that of both: no answer of NumPy's.
                    yield limits(case, name=f"{case.name}_pairs", until=(3, 2), reference=None)
                    case = limits(case, since=(3, 2))
                yield case
    for kind, sem, scope in (
        ("i32", "acq_rel", "gpu"),
        ("i64", "relaxed", "cta"),
        ("u32", "acquire", "sys"),
        ("i16", "release", "gpu"),
        ("fp32", "acq_rel", "gpu"),
        ("fp16", "acq_rel", "gpu"),
    ):
        yield Case(
            f"compare_and_swap_{kind}",
            "compare_and_swap",
            {n: f"*{kind}" for n in ("x", "expected", "out", "old")},
            {"N": 128, "SEM": sem, "SCOPE": scope},
            since=(3, 2),
            buffers={
                "x": Buffer(kind, (128,), "small"),
                "expected": Buffer(kind, (128,), "below 2"),
                "out": Buffer(kind, (128,), "below 2"),
                "old": Buffer(kind, (128,)),
            },
            reference=evaluate("out", "np.where(out == expected, x, out)", "old", "out"),
        )
    yield Case(
        "scalar_atomics",
        "scalar_atomics",
        {"out": "*i32", "old": "*i32"},
        {"VALUE": 3},
        grid=(16, 1, 1),
        buffers={"out": Buffer("i32", (3,)), "old": Buffer("i32", (16,))},
        reference=evaluate(
            "out", "np.array([48, 0, 16], np.int32)", "old", "F.any_order(3 * np.arange(16, dtype=np.int32))"
        ),
    )


def memory() -> Iterator[Case]:
    for i, (cache, evict, store) in enumerate(
        (
            ("", "", ""),
            (".ca", "evict_last", ".wb"),
            (".cg", "evict_first", ".cs"),
            (".cv", "", ".wt"),
            ("", "evict_first", ".cg"),
        )
    ):
        for kind in ("fp32", "fp16", "i8", "i64"):
            yield Case(
                f"loads_{i}_{kind}",
                "loads",
                {"x": f"*{kind}", "out": f"*{kind}", "n": "i32"},
                {"M": 1, "N": 512, "CACHE": cache, "EVICT": evict, "STORE": store},
                aligned=i % 2 == 0,
                grid=(2, 1, 1),
                scalars={"n": 1000},
                buffers={"x": Buffer(kind, (1000,), "small"), "out": Buffer(kind, (1000,))},
                reference=evaluate("out", "x + x"),
            )
    yield Case(
        "block_pointers",
        "block_pointers",
        {"x": "*fp32", "out": "*fp32", "M": "i32", "N": "i32"},
        {"BM": 16, "BN": 32},
        until=(3, 9),
        grid=(3, 1, 1),
        scalars={"M": 40, "N": 100},
        buffers={"x": Buffer("fp32", (40, 100), "unit"), "out": Buffer("fp32", (40, 100))},
        reference=evaluate("out", "x + 1"),
    )
    for kind in ("fp16", "fp32", "i8", "i32", "bf16"):
        yield Case(
            f"descriptors_{kind}",
            "descriptors",
            {"x": f"*{kind}", "out": f"*{kind}", "M": "i32", "N": "i32"},
            {"BM": 16, "BN": 32},
            since=(3, 4),
            grid=(3, 1, 1),
            scalars={"M": 40, "N": 96},
            buffers={"x": Buffer(kind, (40, 96), "small"), "out": Buffer(kind, (40, 96))},
            reference=evaluate("out", "x + np.array(1, x.dtype)"),
        )
    yield Case(
        "descriptor_reduce",
        "descriptor_reduce",
        {"x": "*fp32", "out": "*fp32", "M": "i32", "N": "i32"},
        {"BM": 16, "BN": 32},
        since=(3, 4),
        arch_from=90,
        grid=(3, 1, 1),
        scalars={"M": 40, "N": 96},
        buffers={"x": Buffer("fp32", (40, 96), "small"), "out": Buffer("fp32", (40, 96), "small")},
        reference=evaluate("out", "x + out"),
    )
    yield Case("pointers", "pointers", {"table": "*i64", "out": "*fp32"}, {"N": 64}, runs=False, buffers={})


def programs_and_calls() -> Iterator[Case]:
    for kind in ("i32", "fp32", "i64", "fp64"):
        yield Case(
            f"control_{kind}",
            "control",
            {"x": f"*{kind}", "out": f"*{kind}", "n": "i32"},
            {"N": 128},
            scalars={"n": 7},
            buffers={"x": Buffer(kind, (128,), "small"), "out": Buffer(kind, (128,))},
            reference=evaluate("out", "F.control(x, 7)"),
            tolerance=1e-5,
        )
    for kind in ("i32", "fp32"):
        yield Case(
            f"calls_{kind}",
            "calls",
            {"x": f"*{kind}", "out": f"*{kind}", "factor": kind},
            {"N": 128},
            scalars={"factor": 3},
            buffers={"x": Buffer(kind, (128,), "small"), "out": Buffer(kind, (128,))},
            reference=evaluate("out", "x * 31 + x.sum()"),
            tolerance=1e-5,
        )
    yield Case(
        "inline_assembly",
        "inline_assembly",
        {"x": "*i32", "y": "*i32", "out": "*i32", "packed": "*i8"},
        {"N": 256},
        buffers={
            "x": Buffer("i32", (256,), "any"),
            "y": Buffer("i32", (256,), "any"),
            "out": Buffer("i32", (256,)),
            "packed": Buffer("i8", (256,)),
        },
        reference=evaluate(
            "out",
            "(y << 5) | ((x.view(np.uint32) >> np.uint32(27)).view(np.int32))",
            "packed",
            "(x.astype(np.int8) & 0x7f) ^ 1",
        ),
    )
    yield Case(
        "messages",
        "messages",
        {"x": "*i32"},
        {"N": 32},
        {"debug": True, "num_warps": 1},
        buffers={"x": Buffer("i32", (32,), "small")},
    )
    yield Case(
        "programs",
        "programs",
        {"out": "*i32"},
        grid=(4, 6, 2),
        buffers={"out": Buffer("i32", (48,))},
        reference=evaluate("out", "F.swizzled(4, 6, 2, 2)"),
    )
    yield Case(
        "random_numbers",
        "random_numbers",
        {"uniform": "*fp32", "normal": "*fp32", "ints": "*i32", "seed": "i32"},
        {"N": 256},
        scalars={"seed": 42},
        buffers={"uniform": Buffer("fp32", (256,)), "normal": Buffer("fp32", (256,)), "ints": Buffer("i32", (512,))},
        reference=evaluate("ints", "F.philox(42, 256)"),
    )
    for kind in ("fp32", "fp16", "bf16"):
        yield Case(
            f"softmax_{kind}",
            "softmax",
            {"x": f"*{kind}", "out": f"*{kind}", "columns": "i32"},
            {"N": 1024},
            scalars={"columns": 1000},
            grid=(4, 1, 1),
            buffers={"x": Buffer(kind, (4, 1000), "unit"), "out": Buffer(kind, (4, 1000))},
            reference=evaluate("out", "F.softmax(x)"),
            tolerance=2 * TOLERANCE[kind],
        )
    for kind in ("fp16", "bf16", "fp32"):
        for stages in (1, 3, 4):
            yield Case(
                f"pipelined_{kind}_{stages}",
                "pipelined_matmul",
                {n: f"*{kind}" for n in ("a", "b", "out")} | {n: "i32" for n in "MNK"},
                {"BM": 64, "BN": 64, "BK": 32, "GROUP": 2},
                {"num_stages": stages},
                scalars={"M": 128, "N": 192, "K": 160},
                grid=(6, 1, 1),
                buffers={
                    "a": Buffer(kind, (128, 160), "unit"),
                    "b": Buffer(kind, (160, 192), "unit"),
                    "out": Buffer(kind, (128, 192)),
                },
                reference=evaluate("out", "F.product(a, b)"),
                tolerance=2e-2,
                absolute=5e-2,
            )
    yield Case(
        "pipelined_cluster",
        "pipelined_matmul",
        {n: "*fp16" for n in ("a", "b", "out")} | {n: "i32" for n in "MNK"},
        {"BM": 128, "BN": 64, "BK": 32, "GROUP": 2},
        {"num_ctas": 2},
        arch_from=90,
        arch_to=100,
        since=(3, 0),
        scalars={"M": 128, "N": 128, "K": 96},
        grid=(2, 1, 1),
        buffers={
            "a": Buffer("fp16", (128, 96), "unit"),
            "b": Buffer("fp16", (96, 128), "unit"),
            "out": Buffer("fp16", (128, 128)),
        },
        reference=evaluate("out", "F.product(a, b)"),
        tolerance=2e-2,
        absolute=5e-2,
    )
    for kind, causal in (("fp16", True), ("bf16", False)):
        yield Case(
            f"flash_{kind}",
            "flash",
            {n: f"*{kind}" for n in ("q", "k", "v", "out")} | {"lse": "*fp32", "scale": "fp32", "T": "i32"},
            {"D": 64, "BM": 64, "BN": 32, "CAUSAL": causal},
            {"num_stages": 3},
            scalars={"scale": 0.125, "T": 128},
            grid=(2, 2, 1),
            buffers={n: Buffer(kind, (2, 128, 64), "unit") for n in ("q", "k", "v")}
            | {"out": Buffer(kind, (2, 128, 64)), "lse": Buffer("fp32", (2, 128))},
            reference=evaluate("out", f"F.attention(q, k, v, 0.125, {causal})"),
            tolerance=3e-2,
            absolute=3e-2,
        )
    yield Case(
        "specialised",
        "specialised",
        {n: "*fp16" for n in ("a", "b", "out")} | {n: "i32" for n in "MNK"},
        {"BM": 128, "BN": 128, "BK": 64},
        {"num_stages": 3, "num_warps": 4},
        since=(3, 4),
        arch_from=90,
        arch_to=100,
        scalars={"M": 256, "N": 256, "K": 192},
        grid=(2, 1, 1),
        buffers={
            "a": Buffer("fp16", (256, 192), "unit"),
            "b": Buffer("fp16", (256, 192), "unit"),
            "out": Buffer("fp16", (256, 256)),
        },
        reference=evaluate("out", "F.product(a, b.T)"),
        tolerance=2e-2,
        absolute=5e-2,
    )
    yield Case("clocks", "clocks", {"out": "*i64"}, {}, buffers={"out": Buffer("i64", (3,))})


def cubes() -> Iterator[Case]:
    for kind in ("fp32", "i32", "fp16"):
        for warps in (1, 4):
            shapes = {"x": (8, 4, 16), "first": (4, 16), "second": (8, 16), "third": (8, 4), "total": (1,)}
            yield Case(
                f"cube_{kind}_{warps}",
                "cube",
                {key: f"*{kind}" for key in shapes},
                {"A": 8, "B": 4, "C": 16},
                {"num_warps": warps},
                buffers={key: Buffer(kind, shape, "small" if key == "x" else "zero") for key, shape in shapes.items()},
                reference=evaluate(
                    "first", "x.max(axis=0)", "second", "x.sum(axis=1)", "third", "x.min(axis=2)", "total", "x.sum()"
                ),
            )
    for kind in ("fp32", "i32", "fp16"):
        yield Case(
            f"largest_{kind}",
            "largest",
            {"x": f"*{kind}", "out": f"*{kind}"},
            {"M": 4, "N": 64, "K": 8},
            since=(3, 4),
            buffers={"x": Buffer(kind, (4, 64), "small"), "out": Buffer(kind, (4, 8))},
            reference=evaluate("out", "np.sort(x, axis=1)[:, ::-1][:, :8]"),
        )
        yield Case(
            f"descriptors_3d_{kind}",
            "descriptors_3d",
            {"x": f"*{kind}", "out": f"*{kind}", "A": "i32", "B": "i32", "C": "i32"},
            {"BA": 2, "BB": 8, "BC": 16},
            since=(3, 4),
            grid=(3, 1, 1),
            scalars={"A": 5, "B": 12, "C": 40},
            buffers={"x": Buffer(kind, (5, 12, 40), "small"), "out": Buffer(kind, (5, 12, 40))},
            reference=evaluate("out", "x * 2"),
        )


def gluon() -> Iterator[Case]:
    def two(name: str, m: int, n: int, turned: bool, kind: str, **more: Any) -> Case:
        shape = (n, m) if turned else (m, n)
        text = "x.T" if turned else "x"
        buffers = {"x": Buffer(kind, (m, n), "small"), "out": Buffer(kind, shape)}
        given = {"reference": evaluate("out", text), "buffers": buffers, **more}
        signature = {key: f"*{kind}" for key in given["buffers"]}
        return Case(name, name, signature, {"M": m, "N": n}, module="gluon_kernels", **{"since": (3, 6), **given})

    for kind in ("fp16", "i32"):
        x, out, sums = Buffer(kind, (64, 64), "small"), Buffer(kind, (64, 64)), Buffer(kind, (64,))
        case = two(
            "convert",
            64,
            64,
            False,
            kind,
            buffers={"x": x, "out": out, "sums": sums},
            reference=evaluate("out", "x * 2", "sums", "x.sum(axis=1)"),
        )
        yield limits(case, name=f"gluon_convert_{kind}")
    yield limits(two("transpose_in_shared", 64, 32, True, "fp16"), name="gluon_transpose")
    buffers = {"x": Buffer("fp32", (4, 32, 32), "small"), "out": Buffer("fp32", (4, 32, 32))}
    copies = two(
        "async_copies", 32, 32, False, "fp32", arch_from=80, buffers=buffers, reference=evaluate("out", "x + 1")
    )
    yield limits(copies, name="gluon_async_copies", constants={"M": 32, "N": 32, "STEPS": 4})
    for kernel, arch in (("warpgroup_matmul", 90), ("mma_matmul", 80)):
        yield Case(
            f"gluon_{kernel}",
            kernel,
            {"a": "*fp16", "b": "*fp16", "out": "*fp32"},
            {"M": 64, "N": 64, "K": 64},
            module="gluon_kernels",
            since=(3, 6),
            arch_from=arch,
            arch_to=100 if arch == 90 else 1000,
            buffers={
                "a": Buffer("fp16", (64, 64), "unit"),
                "b": Buffer("fp16", (64, 64), "unit"),
                "out": Buffer("fp32", (64, 64)),
            },
            reference=evaluate("out", "F.product(a, b)"),
            tolerance=1e-3,
            absolute=1e-3,
        )
    yield Case(
        "gluon_tensor_copies",
        "tensor_copies",
        {"x": "*fp16", "out": "*fp16", "M": "i32", "N": "i32"},
        {"BM": 32, "BN": 32},
        module="gluon_kernels",
        since=(3, 6),
        arch_from=90,
        grid=(2, 1, 1),
        scalars={"M": 40, "N": 72},
        buffers={"x": Buffer("fp16", (40, 72), "small"), "out": Buffer("fp16", (40, 72))},
        reference=evaluate("out", "x"),
    )


def cases(version: Version = (99, 0)) -> list[Case]:
    found = [arithmetic_of_integers(kind) for kind in INTEGERS]
    found += [arithmetic_of_floats(kind) for kind in FLOATS]
    for kind in ("fp32", "fp64"):
        found += libdevice(kind)
    found += [libdevice_of_integers(kind) for kind in OF_INTEGERS]
    found += [casts(kind) for kind in CASTS]
    for family in (
        more_casts,
        reductions,
        scans_and_sorts,
        dots,
        atomic_cases,
        memory,
        programs_and_calls,
        cubes,
        gluon,
    ):
        found += family()
    names = [case.name for case in found]
    assert len(set(names)) == len(names), "two cases of one name"
    return found
