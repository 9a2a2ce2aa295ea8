"""The kernel of the sweep and its 32 configurations, for Triton's own Python and for a client without Triton."""

try:
    import triton
    import triton.language as tl
except ImportError:
    import trun as triton
    import trun.language as tl

CONFIGS = [
    triton.Config({"BLOCK_M": m, "BLOCK_N": n, "BLOCK_K": k}, num_warps=warps, num_stages=stages)
    for m, n in ((64, 64), (64, 128), (128, 64), (128, 128))
    for k in (32, 64)
    for warps in (4, 8)
    for stages in (2, 4)
]


@triton.autotune(CONFIGS, key=["m", "n", "k"])
@triton.jit
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
    a = a_ptr + rows[:, None] * stride_a + inner[None, :]
    b = b_ptr + inner[:, None] * stride_b + columns[None, :]
    sums = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)
    for start in range(0, k, BLOCK_K):
        left = k - start
        x = tl.load(a, mask=(rows[:, None] < m) & (inner[None, :] < left), other=0.0)
        y = tl.load(b, mask=(inner[:, None] < left) & (columns[None, :] < n), other=0.0)
        sums += tl.dot(x, y)
        a += BLOCK_K
        b += BLOCK_K * stride_b
    c = c_ptr + rows[:, None] * stride_c + columns[None, :]
    tl.store(c, sums.to(tl.float16), mask=(rows[:, None] < m) & (columns[None, :] < n))
