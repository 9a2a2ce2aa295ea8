"""Triton kernels whose sm_90 PTX is the test data of the asynchronous families: wgmma, TMA, mbarrier."""

import triton
import triton.language as tl


@triton.jit
def wgmma_matmul(a, b, c, M, N, K, stride_am, stride_ak, stride_bk, stride_bn,
                 BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, ACC: tl.constexpr, CAST: tl.constexpr):
    rows = tl.program_id(0) * BM + tl.arange(0, BM)
    cols = tl.program_id(1) * BN + tl.arange(0, BN)
    inner = tl.arange(0, BK)
    acc = tl.zeros([BM, BN], dtype=ACC)
    for k in range(0, K, BK):
        mask_a = (rows[:, None] < M) & (k + inner[None, :] < K)
        mask_b = (k + inner[:, None] < K) & (cols[None, :] < N)
        x = tl.load(a + rows[:, None] * stride_am + (k + inner[None, :]) * stride_ak, mask=mask_a, other=0.0)
        y = tl.load(b + (k + inner[:, None]) * stride_bk + cols[None, :] * stride_bn, mask=mask_b, other=0.0)
        if CAST:
            x = x.to(y.dtype)
        acc = tl.dot(x, y, acc, out_dtype=ACC, input_precision="tf32")
    tl.store(c + rows[:, None] * N + cols[None, :], acc, mask=(rows[:, None] < M) & (cols[None, :] < N))


@triton.jit
def tma_matmul(a, b, c, M, N, K, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, TRANSPOSED: tl.constexpr):
    a_desc = tl.make_tensor_descriptor(a, [M, K], [K, 1], [BM, BK])
    if TRANSPOSED:
        b_desc = tl.make_tensor_descriptor(b, [N, K], [K, 1], [BN, BK])
    else:
        b_desc = tl.make_tensor_descriptor(b, [K, N], [N, 1], [BK, BN])
    c_desc = tl.make_tensor_descriptor(c, [M, N], [N, 1], [BM, BN])
    row = tl.program_id(0) * BM
    col = tl.program_id(1) * BN
    acc = tl.zeros([BM, BN], dtype=tl.float32)
    for k in tl.range(0, K, BK):
        x = a_desc.load([row, k])
        if TRANSPOSED:
            y = b_desc.load([col, k]).T
        else:
            y = b_desc.load([k, col])
        acc = tl.dot(x, y, acc)
    c_desc.store([row, col], acc.to(c.dtype.element_ty))


@triton.jit
def tma_copy_1d(x, out, n, shift, BLOCK: tl.constexpr):
    source = tl.make_tensor_descriptor(x, [n], [1], [BLOCK])
    target = tl.make_tensor_descriptor(out, [n], [1], [BLOCK])
    at = tl.program_id(0) * BLOCK
    target.store([at], source.load([at + shift]))


@triton.jit
def tma_copy_2d(x, out, M, N, row_shift, col_shift, BM: tl.constexpr, BN: tl.constexpr):
    source = tl.make_tensor_descriptor(x, [M, N], [N, 1], [BM, BN])
    target = tl.make_tensor_descriptor(out, [M, N], [N, 1], [BM, BN])
    row = tl.program_id(0) * BM
    col = tl.program_id(1) * BN
    target.store([row, col], source.load([row + row_shift, col + col_shift]) + 0)


@triton.jit
def tma_copy_3d(x, out, A, B, C, a_shift, BA: tl.constexpr, BB: tl.constexpr, BC: tl.constexpr):
    source = tl.make_tensor_descriptor(x, [A, B, C], [B * C, C, 1], [BA, BB, BC])
    target = tl.make_tensor_descriptor(out, [A, B, C], [B * C, C, 1], [BA, BB, BC])
    i = tl.program_id(0) * BA
    j = tl.program_id(1) * BB
    k = tl.program_id(2) * BC
    target.store([i, j, k], source.load([i + a_shift, j, k]))


@triton.jit
def tma_copy_5d(x, out, A, B, C, D, E, BD: tl.constexpr, BE: tl.constexpr):
    source = tl.make_tensor_descriptor(x, [A, B, C, D, E], [B * C * D * E, C * D * E, D * E, E, 1], [1, 2, 2, BD, BE])
    target = tl.make_tensor_descriptor(out, [A, B, C, D, E], [B * C * D * E, C * D * E, D * E, E, 1], [1, 2, 2, BD, BE])
    i = tl.program_id(0)
    for b in range(0, B, 2):
        for c in range(0, C, 2):
            target.store([i, b, c, 0, 0], source.load([i, b, c, 0, 0]))


@triton.jit
def tma_reduce(x, out, M, N, OP: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr):
    target = tl.make_tensor_descriptor(out, [M, N], [N, 1], [BM, BN])
    rows = tl.arange(0, BM)
    cols = tl.arange(0, BN)
    v = tl.load(x + rows[:, None] * BN + cols[None, :])
    row = tl.program_id(0) * BM + BM // 2
    if OP == "add":
        target.atomic_add([row, 0], v)
    elif OP == "min":
        target.atomic_min([row, 0], v)
    elif OP == "max":
        target.atomic_max([row, 0], v)
    elif OP == "and":
        target.atomic_and([row, 0], v)
    elif OP == "or":
        target.atomic_or([row, 0], v)
    elif OP == "xor":
        target.atomic_xor([row, 0], v)


@triton.jit
def tma_gather(x, index, out, M, N, ROWS: tl.constexpr, BN: tl.constexpr):
    source = tl.make_tensor_descriptor(x, [M, N], [N, 1], [1, BN])
    rows = tl.load(index + tl.arange(0, ROWS))
    v = source.gather(rows, 0)
    at = tl.arange(0, ROWS)[:, None] * BN + tl.arange(0, BN)[None, :]
    tl.store(out + at, v)


@triton.jit
def tma_scatter(x, index, out, M, N, ROWS: tl.constexpr, BN: tl.constexpr):
    target = tl.make_tensor_descriptor(out, [M, N], [N, 1], [1, BN])
    rows = tl.load(index + tl.arange(0, ROWS))
    at = tl.arange(0, ROWS)[:, None] * BN + tl.arange(0, BN)[None, :]
    target.scatter(tl.load(x + at), rows, 0)


@triton.jit
def specialised_matmul(a, b, c, M, N, K, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr):
    a_desc = tl.make_tensor_descriptor(a, [M, K], [K, 1], [BM, BK])
    b_desc = tl.make_tensor_descriptor(b, [K, N], [N, 1], [BK, BN])
    c_desc = tl.make_tensor_descriptor(c, [M, N], [N, 1], [BM, BN])
    row = tl.program_id(0) * BM
    col = tl.program_id(1) * BN
    acc = tl.zeros([BM, BN], dtype=tl.float32)
    for k in tl.range(0, K, BK, warp_specialize=True):
        acc = tl.dot(a_desc.load([row, k]), b_desc.load([k, col]), acc)
    c_desc.store([row, col], acc.to(tl.float16))


@triton.jit
def attention(q, k, v, out, scale, N, BM: tl.constexpr, BN: tl.constexpr, D: tl.constexpr):
    rows = tl.program_id(0) * BM + tl.arange(0, BM)
    d = tl.arange(0, D)
    x = tl.load(q + rows[:, None] * D + d[None, :])
    highest = tl.full([BM], float("-inf"), tl.float32)
    total = tl.zeros([BM], tl.float32)
    acc = tl.zeros([BM, D], tl.float32)
    for start in range(0, N, BN):
        cols = start + tl.arange(0, BN)
        p = tl.dot(x, tl.load(k + cols[None, :] * D + d[:, None])) * scale
        now = tl.maximum(highest, tl.max(p, 1))
        p = tl.exp2(p - now[:, None])
        factor = tl.exp2(highest - now)
        total = total * factor + tl.sum(p, 1)
        acc = acc * factor[:, None]
        acc = tl.dot(p.to(tl.float16), tl.load(v + cols[:, None] * D + d[None, :]), acc)
        highest = now
    tl.store(out + rows[:, None] * D + d[None, :], acc / total[:, None])


@triton.jit
def tma_copy_4d(x, out, A, B, C, D):
    source = tl.make_tensor_descriptor(x, [A, B, C, D], [B * C * D, C * D, D, 1], [2, 2, 4, 32])
    target = tl.make_tensor_descriptor(out, [A, B, C, D], [B * C * D, C * D, D, 1], [2, 2, 4, 32])
    i = tl.program_id(0) * 2
    for b in range(0, B, 2):
        for c in range(0, C, 4):
            target.store([i, b, c, 0], source.load([i, b, c, 0]))


@triton.jit
def tma_fill_nan(x, out, M, N):
    source = tl.make_tensor_descriptor(x, [M, N], [N, 1], [16, 32], padding_option="nan")
    v = source.load([M - 8, N - 16])
    tl.store(out + tl.arange(0, 16)[:, None] * 32 + tl.arange(0, 32)[None, :], v)
