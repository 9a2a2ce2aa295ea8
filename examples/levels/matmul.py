"""The kernel of these examples, its inputs, how its numbers are checked, and how its files get into a folder."""

from __future__ import annotations

import json
import logging
import pathlib
from typing import Any

import numpy as np
import trun
import trun.language as tl

BLOCK = 32
# "kernel saved" and "kernel cache hit" come on this log.
logging.basicConfig(level=logging.INFO, format="[%(name)s] %(message)s")


@trun.jit
def matmul(
    a_ptr,
    b_ptr,
    c_ptr,
    m,
    n,
    k,
    stride_a,
    stride_b,
    stride_c,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    rows = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    columns = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    inner = tl.arange(0, BLOCK_K)
    total = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)
    for start in range(0, k, BLOCK_K):
        depth = start + inner
        a_mask = (rows[:, None] < m) & (depth[None, :] < k)
        b_mask = (depth[:, None] < k) & (columns[None, :] < n)
        a = tl.load(a_ptr + rows[:, None] * stride_a + depth[None, :], mask=a_mask, other=0.0)
        b = tl.load(b_ptr + depth[:, None] * stride_b + columns[None, :], mask=b_mask, other=0.0)
        total += tl.dot(a, b)
    mask = (rows[:, None] < m) & (columns[None, :] < n)
    tl.store(c_ptr + rows[:, None] * stride_c + columns[None, :], total, mask=mask)


class Problem:
    """a @ b on the session's device: run it, as often as you like, and check what came out."""

    def __init__(self, session: trun.Session, m: int = 80, n: int = 72, k: int = 96) -> None:
        rng = np.random.default_rng(1)
        self.a, self.b = (rng.standard_normal(shape).astype(np.float16) for shape in ((m, k), (k, n)))
        self.tensors = [session.tensor(self.a), session.tensor(self.b), session.zeros((m, n), dtype="float32")]
        self.session = session
        self.arguments = [*self.tensors, m, n, k, k, n, n]
        self.constants = {"BLOCK_M": BLOCK, "BLOCK_N": BLOCK, "BLOCK_K": BLOCK}
        self.grid = (trun.cdiv(m, BLOCK), trun.cdiv(n, BLOCK))

    def run(self, **how: Any) -> trun.Kernel:
        """how: a file in the place of the source, a toolchain, compile options."""
        self.tensors[2].fill(0)
        kernel = matmul[self.grid](*self.arguments, **self.constants, **how)
        expected = self.a.astype(np.float32) @ self.b.astype(np.float32)
        np.testing.assert_allclose(self.tensors[2].numpy(), expected, rtol=1e-3, atol=1e-3)
        return kernel

    def save(self, folder: pathlib.Path, **how: Any) -> trun.Kernel:
        """Compiles, and writes matmul.ttir, .ttgir, .llir, .ptx, .cubin and .json, as in Triton's cache folder."""
        kernel = matmul.warmup(*self.arguments, **self.constants, **how)
        files = {level: kernel.asm[level] for level in ("ttir", "ttgir", "llir", "ptx")}
        given = {"level": "ptx", "metadata": kernel.metadata, "toolchain": kernel.toolchain, "to": "cubin"}
        files["cubin"] = self.session.load(files["ptx"], **given).asm["cubin"]
        for level, content in files.items():
            (folder / f"matmul.{level}").write_bytes(content.encode() if isinstance(content, str) else content)
        (folder / "matmul.json").write_text(json.dumps(kernel.metadata))
        return kernel


def runs_cubins(session: trun.Session) -> bool:
    """An emulator runs PTX; machine code needs its GPU."""
    return not session.device.startswith("emulator")
