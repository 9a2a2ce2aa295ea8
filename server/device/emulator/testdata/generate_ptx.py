"""Compiles kernels.py to PTX with the Triton of the running interpreter (no GPU is needed).

usage: python generate_ptx.py OUT_FOLDER [ARCH ...]
Writes OUT_FOLDER/NAME.smARCH.ptx and a NAME.smARCH.json with shared memory and warps of each.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import kernels
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, compile

MATMUL_ARGS = {
    **{name: "i32" for name in ("M", "N", "K", "stride_am", "stride_bk", "stride_cm")},
    **{name: "constexpr" for name in ("stride_ak", "stride_bn", "stride_cn", "BM", "BN", "BK", "PRECISION")},
}


def matmul_case(dtype: str, precision: str, block: tuple[int, int, int], **options: int) -> tuple:
    """Copies of 2 bytes do not pipeline (cp.async takes 4, 8 or 16): those of fp16 need DIVISIBLE_BY_16."""
    ones = {"stride_ak": 1, "stride_bn": 1, "stride_cn": 1, "PRECISION": precision}
    constants = {**ones, **dict(zip(("BM", "BN", "BK"), block, strict=True))}
    return ("matmul", {"a": f"*{dtype}", "b": f"*{dtype}", "c": "*fp32", **MATMUL_ARGS}, constants, options)


# Cases whose whole numbers are multiples of 16 too, all but M; the pointers of every case are.
DIVISIBLE_BY_16 = ("N", "K", "stride_am", "stride_bk", "stride_cm")


def i32(*names: str) -> dict[str, str]:
    return {name: "i32" for name in names}


CASES: dict[str, tuple[str, dict[str, str], dict[str, Any], dict[str, int]]] = {
    "vector_add": ("vector_add", {"x": "*fp32", "y": "*fp32", "out": "*fp32", **i32("n")}, {"BLOCK": 1024}, {}),
    "row_softmax": (
        "row_softmax",
        {"out": "*fp32", "x": "*fp32", **i32("in_stride", "out_stride", "columns")},
        {"BLOCK": 1024},
        {},
    ),
    "layer_norm": (
        "layer_norm",
        {"x": "*fp16", "out": "*fp16", "weight": "*fp32", "bias": "*fp32", **i32("stride", "columns"),
         "eps": "fp32"},
        {"BLOCK": 512},
        {},
    ),
    "matmul_fma": matmul_case("fp32", "ieee", (32, 32, 16), num_stages=1),
    "matmul_tf32": matmul_case("fp32", "tf32", (64, 64, 32), num_stages=3),
    "matmul_fp16": matmul_case("fp16", "tf32", (64, 64, 32), num_stages=3),
    "matmul_bf16": matmul_case("bf16", "tf32", (64, 64, 32), num_stages=3),
    "matmul_fp16_pipelined": matmul_case("fp16", "tf32", (64, 64, 32), num_stages=3),
    "matmul_bf16_pipelined": matmul_case("bf16", "tf32", (64, 64, 32), num_stages=3),
    "matmul_s8": (
        "matmul_s8",
        {"a": "*i8", "b": "*i8", "c": "*i32", **i32("M", "N", "K")},
        {"BM": 64, "BN": 64, "BK": 32},
        {},
    ),
    "atomic_sum": ("atomic_sum", {"x": "*fp32", "out": "*fp32", **i32("n")}, {"BLOCK": 256}, {}),
    "histogram": ("histogram", {"x": "*i32", "counts": "*i32", **i32("n")}, {"BLOCK": 256}, {}),
    "transpose": ("transpose", {"x": "*fp32", "out": "*fp32", **i32("M", "N")}, {"BLOCK": 32}, {}),
    "attention": (
        "attention",
        {"q": "*fp16", "k": "*fp16", "v": "*fp16", "out": "*fp16", "scale": "fp32", **i32("N")},
        {"D": 64, "BM": 64, "BN": 64},
        {},
    ),
    "spin_lock": ("spin_lock", {"lock": "*i32", "counter": "*i32", **i32("rounds")}, {}, {}),
    "grid_barrier": ("grid_barrier", {"arrived": "*i32", "out": "*i32", **i32("programs")}, {}, {}),
    "checked_gather": (
        "checked_gather",
        {"x": "*fp32", "index": "*i32", "out": "*fp32", **i32("n")},
        {"BLOCK": 128},
        {"debug": True},
    ),
    "printing": ("printing", {"x": "*i32"}, {}, {}),
    "scan_sort": ("scan_sort", {"x": "*i32", "out": "*i32"}, {"BLOCK": 256}, {}),
    "integers_s32": ("integers", {"a": "*i32", "b": "*i32", "out": "*i32"}, {"BLOCK": 128}, {}),
    "integers_s64": ("integers", {"a": "*i64", "b": "*i64", "out": "*i64"}, {"BLOCK": 128}, {}),
}


def build(name: str, arch: int, folder: Path) -> None:
    function, signature, constants, options = CASES[name]
    kernel = getattr(kernels, function)
    kinds = {**signature, **{key: "constexpr" for key in constants}}
    order = [parameter.name for parameter in kernel.params]
    divisible = DIVISIBLE_BY_16 if name.endswith("_pipelined") else ()
    source = ASTSource(
        fn=kernel,
        signature={key: kinds[key] for key in order},
        constexprs=constants,
        attrs={
            (position,): [["tt.divisibility", 16]]
            for position, key in enumerate(order)
            if kinds[key].startswith("*") or key in divisible
        },
    )
    result = compile(source, target=GPUTarget("cuda", arch, 32), options=dict(options))
    # .file names the source: without the folder, so that the text does not depend on where it was made.
    ptx = re.sub(r'(\.file\s+\d+ ")[^"]*/', r"\1", result.asm["ptx"])
    (folder / f"{name}.sm{arch}.ptx").write_text(ptx)
    metadata = result.metadata._asdict()
    keep = {key: metadata[key] for key in ("name", "shared", "num_warps")}
    (folder / f"{name}.sm{arch}.json").write_text(json.dumps(keep) + "\n")


def main() -> None:
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for arch in [int(text) for text in sys.argv[2:]] or [80]:
        for name in CASES:
            build(name, arch, folder)
            print(f"{name} sm_{arch}", flush=True)


if __name__ == "__main__":
    main()
