"""Writes the timed kernels as TTIR: lower.py FOLDER, with the Python of an installed toolchain (no torch, no GPU)."""

import sys
from pathlib import Path

import kernels
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

for name, case in kernels.CASES.items():
    signature = {**case["signature"], **dict.fromkeys(case["constants"], "constexpr")}
    names = list(signature)
    # What Triton's launcher would specialise on: 16-byte aligned pointers, sizes divisible by 16.
    aligned = {
        (i,): [["tt.divisibility", 16]]
        for i, n in enumerate(names)
        if str(signature[n]).startswith("*") or (signature[n] == "i32" and case["sizes"][n] % 16 == 0)
    }
    constants = {(names.index(n),): value for n, value in case["constants"].items()}
    source = ASTSource(getattr(kernels, name), signature, constants, aligned)
    compiled = triton.compile(source, target=GPUTarget("cuda", 80, 32))
    (Path(sys.argv[1]) / f"{name}.ttir").write_text(compiled.asm["ttir"])
