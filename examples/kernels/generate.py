"""Lowers the example kernels with the Triton of the Python that runs this.

    TOOLCHAIN/bin/python generate.py --out DIR                           NAME.ttir of every kernel
    TOOLCHAIN/bin/python generate.py --out DIR --level ptx --arch 80     also .ttgir, .llir, .ptx, .json

Needs Triton 3.4 or later, no GPU and no torch. The .ttir files here come from Triton 3.9.0.
"""

import argparse
import dataclasses
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

LEVELS = ["ttir", "ttgir", "llir", "ptx", "cubin"]


@dataclasses.dataclass(frozen=True)
class Variant:
    """One file: a kernel, its arguments' types, its constants, and which arguments are multiples of 16."""

    kernel: str
    signature: dict[str, str]
    constants: dict[str, Any]
    aligned: tuple[str, ...] = ()  # beside all pointers
    options: dict[str, Any] = dataclasses.field(default_factory=dict)


def _matmul(a: str, c: str, blocks: tuple[int, int, int], precision: str, aligned: bool) -> Variant:
    """Dense operands (inner strides of 1 are folded away) when `aligned`, else every stride an argument."""
    signature = {"a_ptr": f"*{a}", "b_ptr": f"*{a}", "c_ptr": f"*{c}", "M": "i32", "N": "i32", "K": "i32"}
    constants: dict[str, Any] = dict(zip(("BLOCK_M", "BLOCK_N", "BLOCK_K"), blocks, strict=True)) | {
        "PRECISION": precision
    }
    for outer, inner in (("stride_am", "stride_ak"), ("stride_bk", "stride_bn"), ("stride_cm", "stride_cn")):
        signature[outer] = "i32"
        if aligned:
            constants[inner] = 1
        else:
            signature[inner] = "i32"
    return Variant("matmul", signature, constants, ("N", "K", "stride_am", "stride_bk", "stride_cm") if aligned else ())


VARIANTS: dict[str, Variant] = {
    "vector_add": Variant(
        "vector_add",
        {"x_ptr": "*fp32", "y_ptr": "*fp32", "out_ptr": "*fp32", "n_elements": "i32"},
        {"BLOCK": 1024},
    ),
    "softmax": Variant(
        "softmax",
        {"out_ptr": "*fp32", "in_ptr": "*fp32", "out_stride": "i32", "in_stride": "i32", "n_cols": "i32"},
        {"BLOCK": 1024},
    ),
    "layer_norm": Variant(
        "layer_norm",
        {
            "x_ptr": "*fp32",
            "y_ptr": "*fp32",
            "w_ptr": "*fp32",
            "b_ptr": "*fp32",
            "mean_ptr": "*fp32",
            "rstd_ptr": "*fp32",
            "stride": "i32",
            "n_cols": "i32",
            "eps": "fp32",
        },
        {"BLOCK": 256},
    ),
    "reduce_sum": Variant(
        "reduce_sum",
        {"x_ptr": "*fp32", "sum_ptr": "*fp32", "count_ptr": "*i32", "n_elements": "i32"},
        {"BLOCK": 1024},
    ),
    "transpose": Variant("transpose", {"x_ptr": "*fp32", "out_ptr": "*fp32", "M": "i32", "N": "i32"}, {"BLOCK": 32}),
    # Any size and strides; what the quickstart runs.
    "matmul": _matmul("fp16", "fp32", (64, 64, 32), "ieee", aligned=False),
    # N, K and the row strides are multiples of 16: loads become cp.async, pipelined by num_stages.
    "matmul_fp16": _matmul("fp16", "fp16", (64, 64, 32), "ieee", aligned=True),
    "matmul_bf16": _matmul("bf16", "bf16", (64, 64, 32), "ieee", aligned=True),
    "matmul_tf32": _matmul("fp32", "fp32", (64, 64, 32), "tf32", aligned=True),
    # No tensor cores: plain fused multiply-adds.
    "matmul_fp32": _matmul("fp32", "fp32", (32, 32, 16), "ieee", aligned=False),
}


def _lower(name: str, variant: Variant, level: str, arch: int) -> dict[str, bytes]:
    """File suffix to content: every level up to `level`, and the metadata for more than TTIR."""
    import kernels
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    kernel = getattr(kernels, variant.kernel)
    signature = {arg: variant.signature.get(arg, "constexpr") for arg in kernel.arg_names}
    attrs = {
        (i,): [["tt.divisibility", 16]]
        for i, arg in enumerate(kernel.arg_names)
        if signature[arg].startswith("*") or arg in variant.aligned
    }
    constants = {(kernel.arg_names.index(arg),): value for arg, value in variant.constants.items()}
    source = ASTSource(kernel, signature, constants, attrs)
    compiled = triton.compile(
        source, target=GPUTarget("cuda", arch, 32), options={"enable_fp_fusion": True} | variant.options
    )
    files: dict[str, bytes] = {}
    for suffix in LEVELS[: LEVELS.index(level) + 1]:
        content = compiled.asm[suffix]
        files[suffix] = content if isinstance(content, bytes) else _without_paths(content).encode()
    if level != "ttir":
        metadata = compiled.metadata._asdict()
        metadata["target"] = vars(metadata["target"])
        metadata.pop("extern_libs", None)
        files["json"] = (json.dumps(metadata, sort_keys=True, default=str) + "\n").encode()
    return files


def _without_paths(text: str) -> str:
    """Locations name kernels.py and triton/..., not the folders they happened to lie in."""
    import triton

    for folder in (Path(__file__).resolve().parent, Path(triton.__file__).resolve().parent.parent):
        text = text.replace(f'directory: "{folder}"', 'directory: "."').replace(f"{folder}/", "")
    return text


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for the files")
    parser.add_argument("--level", choices=LEVELS, default="ttir", help="the last level to write")
    parser.add_argument("--arch", type=int, default=80, help="compute capability times ten")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"some of: {', '.join(VARIANTS)}; all by default")
    args = parser.parse_args()
    if unknown := [name for name in args.names if name not in VARIANTS]:
        parser.error(f"no such kernel: {', '.join(unknown)}; there are {', '.join(VARIANTS)}")

    sys.dont_write_bytecode = True
    sys.path.insert(0, str(Path(__file__).resolve().parent))
    args.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as cache:
        os.environ["TRITON_CACHE_DIR"] = cache
        for name in args.names or VARIANTS:
            for suffix, content in _lower(name, VARIANTS[name], args.level, args.arch).items():
                (args.out / f"{name}.{suffix}").write_bytes(content)
            print(args.out / f"{name}.{args.level}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
