"""What run_vs_python.py measures against: the same vector add on the GPU by torch and Triton, as a user's script.

Prints the first sums and exits 1 where one is wrong.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
import triton

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "examples/kernels"))
import kernels  # noqa: E402

n = 4096
x, y = torch.ones(n, device="cuda"), torch.ones(n, device="cuda")
out = torch.empty_like(x)
kernels.vector_add[(triton.cdiv(n, 1024),)](x, y, out, n, BLOCK=1024)
print(out[:8].tolist())
sys.exit(0 if bool((out == 2).all()) else 1)
