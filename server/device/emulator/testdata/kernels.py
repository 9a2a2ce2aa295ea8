"""Triton kernels whose PTX is the emulator's test data."""

import triton
import triton.language as tl


@triton.jit
def vector_add(x, y, out, n, BLOCK: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = offsets < n
    tl.store(out + offsets, tl.load(x + offsets, mask=mask) + tl.load(y + offsets, mask=mask), mask=mask)


@triton.jit
def row_softmax(out, x, in_stride, out_stride, columns, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    offsets = tl.arange(0, BLOCK)
    mask = offsets < columns
    values = tl.load(x + row * in_stride + offsets, mask=mask, other=-float("inf"))
    values = values - tl.max(values, axis=0)
    numerator = tl.exp(values)
    tl.store(out + row * out_stride + offsets, numerator / tl.sum(numerator, axis=0), mask=mask)


@triton.jit
def layer_norm(x, out, weight, bias, stride, columns, eps, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    total = tl.zeros([BLOCK], dtype=tl.float32)
    for start in range(0, columns, BLOCK):
        offsets = start + tl.arange(0, BLOCK)
        total += tl.load(x + row * stride + offsets, mask=offsets < columns, other=0.0).to(tl.float32)
    mean = tl.sum(total, axis=0) / columns
    squares = tl.zeros([BLOCK], dtype=tl.float32)
    for start in range(0, columns, BLOCK):
        offsets = start + tl.arange(0, BLOCK)
        values = tl.load(x + row * stride + offsets, mask=offsets < columns, other=0.0).to(tl.float32)
        centred = tl.where(offsets < columns, values - mean, 0.0)
        squares += centred * centred
    scale = 1 / tl.sqrt(tl.sum(squares, axis=0) / columns + eps)
    for start in range(0, columns, BLOCK):
        offsets = start + tl.arange(0, BLOCK)
        mask = offsets < columns
        values = tl.load(x + row * stride + offsets, mask=mask, other=0.0).to(tl.float32)
        w = tl.load(weight + offsets, mask=mask)
        b = tl.load(bias + offsets, mask=mask)
        tl.store(out + row * stride + offsets, (values - mean) * scale * w + b, mask=mask)


@triton.jit
def matmul(
    a, b, c, M, N, K, stride_am, stride_ak, stride_bk, stride_bn, stride_cm, stride_cn,
    BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, PRECISION: tl.constexpr,
):
    pid_m = tl.program_id(0)
    pid_n = tl.program_id(1)
    rows = pid_m * BM + tl.arange(0, BM)
    cols = pid_n * BN + tl.arange(0, BN)
    inner = tl.arange(0, BK)
    a_ptrs = a + rows[:, None] * stride_am + inner[None, :] * stride_ak
    b_ptrs = b + inner[:, None] * stride_bk + cols[None, :] * stride_bn
    accumulator = tl.zeros((BM, BN), dtype=tl.float32)
    for k in range(0, tl.cdiv(K, BK)):
        k_left = K - k * BK
        av = tl.load(a_ptrs, mask=(rows[:, None] < M) & (inner[None, :] < k_left), other=0.0)
        bv = tl.load(b_ptrs, mask=(inner[:, None] < k_left) & (cols[None, :] < N), other=0.0)
        accumulator = tl.dot(av, bv, accumulator, input_precision=PRECISION)
        a_ptrs += BK * stride_ak
        b_ptrs += BK * stride_bk
    c_ptrs = c + rows[:, None] * stride_cm + cols[None, :] * stride_cn
    tl.store(c_ptrs, accumulator, mask=(rows[:, None] < M) & (cols[None, :] < N))


@triton.jit
def matmul_s8(a, b, c, M, N, K, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr):
    rows = tl.program_id(0) * BM + tl.arange(0, BM)
    cols = tl.program_id(1) * BN + tl.arange(0, BN)
    inner = tl.arange(0, BK)
    accumulator = tl.zeros((BM, BN), dtype=tl.int32)
    for k in range(0, K, BK):
        av = tl.load(a + rows[:, None] * K + (k + inner)[None, :])
        bv = tl.load(b + (k + inner)[:, None] * N + cols[None, :])
        accumulator = tl.dot(av, bv, accumulator)
    tl.store(c + rows[:, None] * N + cols[None, :], accumulator)


@triton.jit
def atomic_sum(x, out, n, BLOCK: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    values = tl.load(x + offsets, mask=offsets < n, other=0.0)
    tl.atomic_add(out, tl.sum(values, axis=0))


@triton.jit
def histogram(x, counts, n, BLOCK: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = offsets < n
    values = tl.load(x + offsets, mask=mask, other=0)
    tl.atomic_add(counts + values, 1, mask=mask)


@triton.jit
def transpose(x, out, M, N, BLOCK: tl.constexpr):
    rows = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    cols = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    tile = tl.load(x + rows[:, None] * N + cols[None, :], mask=(rows[:, None] < M) & (cols[None, :] < N))
    tl.store(out + cols[:, None] * M + rows[None, :], tl.trans(tile),
             mask=(cols[:, None] < N) & (rows[None, :] < M))


@triton.jit
def attention(q, k, v, out, scale, N, D: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr):
    head = tl.program_id(1)
    rows = tl.program_id(0) * BM + tl.arange(0, BM)
    cols = tl.arange(0, BN)
    dims = tl.arange(0, D)
    base = head * N * D
    qv = tl.load(q + base + rows[:, None] * D + dims[None, :])
    accumulator = tl.zeros((BM, D), dtype=tl.float32)
    peak = tl.full((BM,), -float("inf"), dtype=tl.float32)
    total = tl.zeros((BM,), dtype=tl.float32)
    for start in range(0, N, BN):
        kv = tl.load(k + base + (start + cols)[None, :] * D + dims[:, None])
        scores = tl.dot(qv, kv) * scale
        new_peak = tl.maximum(peak, tl.max(scores, axis=1))
        weights = tl.exp(scores - new_peak[:, None])
        correction = tl.exp(peak - new_peak)
        total = total * correction + tl.sum(weights, axis=1)
        vv = tl.load(v + base + (start + cols)[:, None] * D + dims[None, :])
        accumulator = accumulator * correction[:, None]
        accumulator = tl.dot(weights.to(tl.float16), vv, accumulator)
        peak = new_peak
    tl.store(out + base + rows[:, None] * D + dims[None, :], (accumulator / total[:, None]).to(tl.float16))


@triton.jit
def spin_lock(lock, counter, rounds):
    for _ in range(rounds):
        while tl.atomic_cas(lock, 0, 1) == 1:
            pass
        tl.store(counter, tl.load(counter) + 1)
        tl.debug_barrier()
        tl.atomic_xchg(lock, 0)


@triton.jit
def grid_barrier(arrived, out, programs):
    pid = tl.program_id(0)
    tl.store(out + pid, pid + 1)
    tl.debug_barrier()
    tl.atomic_add(arrived, 1)
    while tl.atomic_add(arrived, 0) < programs:
        pass
    tl.debug_barrier()
    neighbour = tl.load(out + (pid + 1) % programs, volatile=True)
    tl.store(out + programs + pid, neighbour)


@triton.jit
def checked_gather(x, index, out, n, BLOCK: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    where = tl.load(index + offsets)
    tl.device_assert(where < n, "index is out of range")
    tl.store(out + offsets, tl.load(x + where))


@triton.jit
def printing(x):
    tl.device_print("value", tl.load(x + tl.program_id(0)))


@triton.jit
def scan_sort(x, out, BLOCK: tl.constexpr):
    offsets = tl.arange(0, BLOCK)
    values = tl.load(x + offsets)
    tl.store(out + offsets, tl.cumsum(values, 0))
    tl.store(out + BLOCK + offsets, tl.sort(values))


@triton.jit
def integers(a, b, out, BLOCK: tl.constexpr):
    offsets = tl.arange(0, BLOCK)
    x = tl.load(a + offsets)
    y = tl.load(b + offsets)
    tl.store(out + offsets, x // y)
    tl.store(out + BLOCK + offsets, x % y)
    tl.store(out + 2 * BLOCK + offsets, (x << 3) ^ (y >> 2))
    tl.store(out + 3 * BLOCK + offsets, x * y + tl.minimum(x, y))
