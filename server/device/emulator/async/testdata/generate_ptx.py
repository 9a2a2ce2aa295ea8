"""Compiles hopper_kernels.py to sm_90 PTX with the Triton of the running interpreter (no GPU is needed).

usage: python generate_ptx.py OUT_FOLDER
Writes OUT_FOLDER/NAME.ptx and NAME.json with what a launch needs.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import hopper_kernels
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.backends.nvidia.compiler import CUDABackend
from triton.compiler import ASTSource, compile

Case = tuple[str, dict[str, str], dict[str, Any], dict[str, Any]]


def stop_at_ptx() -> None:
    """ptxas knows gather4 and scatter4 for newer targets only, Triton emits them for sm_90 all the same."""
    add_stages = CUDABackend.add_stages

    def add_stages_to_ptx(self: CUDABackend, stages: dict[str, Any], *rest: Any) -> None:
        add_stages(self, stages, *rest)
        del stages["cubin"]

    CUDABackend.add_stages = add_stages_to_ptx
    construct = CUDABackend.__init__

    def construct_for_ptx(self: CUDABackend, target: GPUTarget) -> None:
        construct(self, target)
        self.binary_ext = "ptx"

    CUDABackend.__init__ = construct_for_ptx


def i32(*names: str) -> dict[str, str]:
    return {name: "i32" for name in names}


def matmul(a: str, b: str, c: str, acc: Any, block: tuple[int, int, int], *, a_ones: bool = True, b_ones: bool = True,
           cast: bool = False, **options: Any) -> Case:
    signature = {"a": f"*{a}", "b": f"*{b}", "c": f"*{c}", **i32("M", "N", "K", "stride_am", "stride_ak", "stride_bk",
                                                                  "stride_bn")}
    constants: dict[str, Any] = {"BM": block[0], "BN": block[1], "BK": block[2], "ACC": acc, "CAST": cast}
    constants["stride_ak" if a_ones else "stride_am"] = 1
    constants["stride_bn" if b_ones else "stride_bk"] = 1
    return ("wgmma_matmul", signature, constants, options)


def copy(name: str, dtype: str, numbers: tuple[str, ...], **constants: int) -> Case:
    return (name, {"x": f"*{dtype}", "out": f"*{dtype}", **i32(*numbers)}, constants, {"num_warps": 4})


def reduce(op: str, dtype: str) -> Case:
    return ("tma_reduce", {"x": f"*{dtype}", "out": f"*{dtype}", **i32("M", "N")}, {"OP": op, "BM": 16, "BN": 32}, {})


CASES: dict[str, Case] = {
    "wgmma_fp16": matmul("fp16", "fp16", "fp32", tl.float32, (64, 64, 64), num_stages=3),
    "wgmma_fp16_wide": matmul("fp16", "fp16", "fp32", tl.float32, (128, 256, 64), num_warps=8, num_stages=3),
    "wgmma_fp16_columns": matmul("fp16", "fp16", "fp32", tl.float32, (64, 64, 64), a_ones=False, b_ones=False),
    "wgmma_fp16_narrow": matmul("fp16", "fp16", "fp32", tl.float32, (64, 16, 16), num_stages=2),
    "wgmma_fp16_half": matmul("fp16", "fp16", "fp16", tl.float16, (64, 128, 32), num_stages=2),
    "wgmma_bf16": matmul("bf16", "bf16", "fp32", tl.float32, (64, 128, 32), num_stages=3),
    "wgmma_bf16_registers": matmul("fp8e5", "fp16", "fp32", tl.float32, (64, 64, 64), cast=True, num_stages=2),
    "wgmma_tf32": matmul("fp32", "fp32", "fp32", tl.float32, (64, 64, 32), b_ones=False, num_stages=2),
    "wgmma_e4m3": matmul("fp8e4nv", "fp8e4nv", "fp32", tl.float32, (64, 64, 64), b_ones=False, num_stages=2),
    "wgmma_e5m2": matmul("fp8e5", "fp8e5", "fp32", tl.float32, (64, 32, 128), b_ones=False, num_stages=2),
    "wgmma_s8": matmul("i8", "i8", "i32", tl.int32, (64, 64, 64), b_ones=False, num_stages=2),
    "tma_matmul_fp16": ("tma_matmul", {"a": "*fp16", "b": "*fp16", "c": "*fp16", **i32("M", "N", "K")},
                        {"BM": 64, "BN": 128, "BK": 64, "TRANSPOSED": False}, {"num_stages": 3}),
    "tma_matmul_bf16_transposed": ("tma_matmul", {"a": "*bf16", "b": "*bf16", "c": "*bf16", **i32("M", "N", "K")},
                                   {"BM": 128, "BN": 64, "BK": 32, "TRANSPOSED": True}, {"num_warps": 8}),
    "tma_matmul_fp16_narrow": ("tma_matmul", {"a": "*fp16", "b": "*fp16", "c": "*fp32", **i32("M", "N", "K")},
                               {"BM": 64, "BN": 16, "BK": 16, "TRANSPOSED": True}, {"num_stages": 4}),
    "tma_matmul_cluster": ("tma_matmul", {"a": "*fp16", "b": "*fp16", "c": "*fp16", **i32("M", "N", "K")},
                           {"BM": 128, "BN": 128, "BK": 64, "TRANSPOSED": False}, {"num_ctas": 2}),
    "specialised_matmul": ("specialised_matmul", {"a": "*fp16", "b": "*fp16", "c": "*fp16", **i32("M", "N", "K")},
                           {"BM": 128, "BN": 128, "BK": 64}, {"num_stages": 3}),
    "attention": ("attention", {"q": "*fp16", "k": "*fp16", "v": "*fp16", "out": "*fp32", "scale": "fp32", "N": "i32"},
                  {"BM": 64, "BN": 64, "D": 64}, {"num_stages": 2}),
    "tma_copy_4d_fp16": ("tma_copy_4d", {"x": "*fp16", "out": "*fp16", **i32("A", "B", "C", "D")}, {}, {}),
    "tma_fill_nan_fp16": ("tma_fill_nan", {"x": "*fp16", "out": "*fp16", **i32("M", "N")}, {}, {}),
    "tma_copy_1d_fp32": copy("tma_copy_1d", "fp32", ("n", "shift"), BLOCK=256),
    "tma_copy_2d_fp16": copy("tma_copy_2d", "fp16", ("M", "N", "row_shift", "col_shift"), BM=16, BN=64),
    "tma_copy_2d_fp32": copy("tma_copy_2d", "fp32", ("M", "N", "row_shift", "col_shift"), BM=8, BN=16),
    "tma_copy_2d_u8": copy("tma_copy_2d", "u8", ("M", "N", "row_shift", "col_shift"), BM=8, BN=32),
    "tma_copy_3d_fp16": copy("tma_copy_3d", "fp16", ("A", "B", "C", "a_shift"), BA=2, BB=8, BC=32),
    "tma_copy_5d_bf16": copy("tma_copy_5d", "bf16", ("A", "B", "C", "D", "E"), BD=4, BE=16),
    "tma_reduce_add_fp32": reduce("add", "fp32"),
    "tma_reduce_add_fp16": reduce("add", "fp16"),
    "tma_reduce_min_s32": reduce("min", "i32"),
    "tma_reduce_max_u32": reduce("max", "u32"),
    "tma_reduce_xor_u32": reduce("xor", "u32"),
    "tma_gather_fp16": ("tma_gather", {"x": "*fp16", "index": "*i32", "out": "*fp16", **i32("M", "N")},
                        {"ROWS": 16, "BN": 64}, {}),
    "tma_scatter_fp32": ("tma_scatter", {"x": "*fp32", "index": "*i32", "out": "*fp32", **i32("M", "N")},
                         {"ROWS": 8, "BN": 32}, {}),
}


def build(name: str, folder: Path) -> None:
    function, signature, constants, options = CASES[name]
    kernel = getattr(hopper_kernels, function)
    kinds = {**signature, **{key: "constexpr" for key in constants}}
    order = [parameter.name for parameter in kernel.params]
    divisible = [["tt.divisibility", 16]]
    attrs = {(i,): divisible for i, key in enumerate(order) if kinds[key].startswith("*") or key.startswith("stride_")
             and kinds[key] == "i32"}
    source = ASTSource(fn=kernel, signature={key: kinds[key] for key in order}, constexprs=constants, attrs=attrs)
    result = compile(source, target=GPUTarget("cuda", 90, 32), options=dict(options))
    text = result.asm["ptx"]
    text = text.decode() if isinstance(text, bytes) else text
    text = re.sub(r'(\.file\s+\d+ ")[^"]*/', r"\1", text)
    debug = text.find("\t.section\t.debug")
    (folder / f"{name}.ptx").write_text(text if debug < 0 else text[:debug])
    metadata = result.metadata._asdict()
    keys = ("name", "shared", "num_warps", "num_ctas", "global_scratch_size", "global_scratch_align")
    kept = {key: metadata[key] for key in keys}
    kept["parameters"] = [kinds[key] for key in order if kinds[key] != "constexpr"]
    (folder / f"{name}.json").write_text(json.dumps(kept) + "\n")


def main() -> None:
    stop_at_ptx()
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name in CASES:
        if len(sys.argv) > 2 and name not in sys.argv[2:]:
            continue
        build(name, folder)
        print(name, flush=True)


if __name__ == "__main__":
    main()
