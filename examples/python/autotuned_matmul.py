"""A matmul as Python source: no Triton here, tiles chosen by an autotuner, one argument computed by heuristics."""

from __future__ import annotations

import numpy as np
import trun
import trun.language as tl

TILES = [(16, 32), (32, 32), (64, 32)]


@trun.autotune(
    configs=[trun.Config({"BLOCK_M": m, "BLOCK_N": n, "BLOCK_K": 32}, num_warps=4) for m, n in TILES],
    key=["m", "n", "k"],
)
@trun.heuristics({"EVEN_K": lambda arguments: arguments["k"] % arguments["BLOCK_K"] == 0})
@trun.jit
def matmul(
    a_ptr,
    b_ptr,
    c_ptr,
    m,
    n,
    k,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    EVEN_K: tl.constexpr,
):
    rows = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)[:, None]
    columns = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)[None, :]
    depth = tl.arange(0, BLOCK_K)
    total = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)
    for start in range(0, k, BLOCK_K):
        at = start + depth
        a_mask = rows < m
        b_mask = columns < n
        if not EVEN_K:
            a_mask &= at[None, :] < k
            b_mask &= at[:, None] < k
        a = tl.load(a_ptr + rows * k + at[None, :], mask=a_mask, other=0.0)
        b = tl.load(b_ptr + at[:, None] * n + columns, mask=b_mask, other=0.0)
        total += tl.dot(a, b)
    tl.store(c_ptr + rows * n + columns, total, mask=(rows < m) & (columns < n))


def main(m: int = 100, n: int = 77, k: int = 160) -> None:
    generator = np.random.default_rng(1)
    a = generator.standard_normal((m, k)).astype(np.float16)
    b = generator.standard_normal((k, n)).astype(np.float16)
    c = np.zeros((m, n), np.float32)
    kernel = matmul[lambda meta: (trun.cdiv(m, meta["BLOCK_M"]), trun.cdiv(n, meta["BLOCK_N"]))](a, b, c, m, n, k)
    np.testing.assert_allclose(c, a.astype(np.float32) @ b.astype(np.float32), rtol=1e-3, atol=1e-2)
    (tuning,) = matmul.tunings.values()
    print(f"{tuning.config} won by {tuning.ranked_by}; compiled by Triton {kernel.toolchain}: right")


if __name__ == "__main__":
    main()
