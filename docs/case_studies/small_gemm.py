"""A small GEMM with the tile of Triton's issue 7096: 64 × 128 × 64, four stages, four warps."""

import triton
import triton.language as tl


@triton.jit
def small_gemm(
    a_ptr,
    b_ptr,
    c_ptr,
    m,
    n,
    k,
    stride_a,
    stride_b,
    stride_c,
    BLOCK_M: tl.constexpr = 64,
    BLOCK_N: tl.constexpr = 128,
    BLOCK_K: tl.constexpr = 64,
    BAND: tl.constexpr = 8,
):
    """c = a @ b in fp16; programs walk through bands of rows, so that neighbours share columns of b in the L2 cache."""
    across = tl.cdiv(n, BLOCK_N)
    down = tl.cdiv(m, BLOCK_M)
    band = tl.program_id(0) // (BAND * across)
    within = tl.program_id(0) % (BAND * across)
    height = min(down - band * BAND, BAND)
    row = band * BAND + within % height
    column = within // height

    # Rows and columns past the end wrap around: they are loaded, and never stored.
    rows = (row * BLOCK_M + tl.arange(0, BLOCK_M)) % m
    columns = (column * BLOCK_N + tl.arange(0, BLOCK_N)) % n
    inner = tl.arange(0, BLOCK_K)
    a = a_ptr + rows[:, None] * stride_a + inner[None, :]
    b = b_ptr + inner[:, None] * stride_b + columns[None, :]
    total = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)
    for step in range(0, tl.cdiv(k, BLOCK_K)):
        left = k - step * BLOCK_K
        x = tl.load(a, mask=inner[None, :] < left, other=0.0)
        y = tl.load(b, mask=inner[:, None] < left, other=0.0)
        total += tl.dot(x, y)
        a += BLOCK_K
        b += BLOCK_K * stride_b
    out_rows = row * BLOCK_M + tl.arange(0, BLOCK_M)
    out_columns = column * BLOCK_N + tl.arange(0, BLOCK_N)
    inside = (out_rows[:, None] < m) & (out_columns[None, :] < n)
    tl.store(c_ptr + out_rows[:, None] * stride_c + out_columns[None, :], total.to(tl.float16), mask=inside)
