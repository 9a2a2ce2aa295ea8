"""The three kernels that are timed on the emulator and in Triton's interpreter: the same source for both."""

import triton
import triton.language as tl


@triton.jit
def add(x, y, out, n, BLOCK: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = offsets < n
    tl.store(out + offsets, tl.load(x + offsets, mask=mask) + tl.load(y + offsets, mask=mask), mask=mask)


@triton.jit
def softmax(x, out, columns, stride, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    offsets = tl.arange(0, BLOCK)
    mask = offsets < columns
    values = tl.load(x + row * stride + offsets, mask=mask, other=-float("inf"))
    values = tl.exp(values - tl.max(values, axis=0))
    tl.store(out + row * stride + offsets, values / tl.sum(values, axis=0), mask=mask)


@triton.jit
def matmul(a, b, c, M, N, K, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr):
    rows = tl.program_id(0) * BM + tl.arange(0, BM)
    columns = tl.program_id(1) * BN + tl.arange(0, BN)
    inner = tl.arange(0, BK)
    a_block = a + rows[:, None] * K + inner[None, :]
    b_block = b + inner[:, None] * N + columns[None, :]
    sum = tl.zeros((BM, BN), dtype=tl.float32)
    for _ in range(0, K, BK):
        sum = tl.dot(tl.load(a_block), tl.load(b_block), sum)
        a_block += BK
        b_block += BK * N
    tl.store(c + rows[:, None] * N + columns[None, :], sum)


@triton.jit
def attention(q, k, v, out, length, scale, HEAD: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr):
    rows = tl.program_id(0) * BM + tl.arange(0, BM)
    head = tl.program_id(1) * length * HEAD
    inner = tl.arange(0, HEAD)
    q_tile = tl.load(q + head + rows[:, None] * HEAD + inner[None, :])
    best = tl.full((BM,), -float("inf"), dtype=tl.float32)
    total = tl.zeros((BM,), dtype=tl.float32)
    sum = tl.zeros((BM, HEAD), dtype=tl.float32)
    for start in range(0, length, BN):
        columns = start + tl.arange(0, BN)
        k_tile = tl.load(k + head + columns[None, :] * HEAD + inner[:, None])
        scores = tl.dot(q_tile, k_tile) * scale
        new_best = tl.maximum(best, tl.max(scores, 1))
        weights = tl.exp(scores - new_best[:, None])
        decay = tl.exp(best - new_best)
        total = total * decay + tl.sum(weights, 1)
        v_tile = tl.load(v + head + columns[:, None] * HEAD + inner[None, :])
        sum = tl.dot(weights.to(tl.float16), v_tile, sum * decay[:, None])
        best = new_best
    tl.store(out + head + rows[:, None] * HEAD + inner[None, :], (sum / total[:, None]).to(tl.float16))


# name → (signature, constexprs, options, grid); integers of the signature are given by `arguments` of each driver.
CASES = {
    "add": {
        "signature": {"x": "*fp32", "y": "*fp32", "out": "*fp32", "n": "i32"},
        "constants": {"BLOCK": 1024},
        "sizes": {"n": 1 << 20},
        "grid": (1024, 1, 1),
    },
    "softmax": {
        "signature": {"x": "*fp32", "out": "*fp32", "columns": "i32", "stride": "i32"},
        "constants": {"BLOCK": 1024},
        "sizes": {"columns": 1000, "stride": 1000},
        "grid": (1024, 1, 1),
    },
    "matmul": {
        "signature": {"a": "*fp16", "b": "*fp16", "c": "*fp32", "M": "i32", "N": "i32", "K": "i32"},
        "constants": {"BM": 64, "BN": 64, "BK": 32},
        "sizes": {"M": 512, "N": 512, "K": 512},
        "grid": (8, 8, 1),
    },
    "attention": {
        "signature": {"q": "*fp16", "k": "*fp16", "v": "*fp16", "out": "*fp16", "length": "i32", "scale": "fp32"},
        "constants": {"HEAD": 64, "BM": 64, "BN": 64},
        "sizes": {"length": 512, "scale": 0.125},
        "grid": (8, 4, 1),
    },
}
