"""Triton kernels that use what the language has: each is compiled for every architecture and run on the emulator.

Cases (corpus.py) say with which types, constants and options.
"""

import triton
import triton.language as tl


@triton.jit
def reduce_rows(x, out, M: tl.constexpr, N: tl.constexpr, AXIS: tl.constexpr, OP: tl.constexpr):
    v = tl.load(x + tl.arange(0, M)[:, None] * N + tl.arange(0, N)[None, :])
    if OP == "sum":
        r = tl.sum(v, AXIS)
    elif OP == "max":
        r = tl.max(v, AXIS)
    elif OP == "min":
        r = tl.min(v, AXIS)
    elif OP == "xor":
        r = tl.xor_sum(v, AXIS)
    elif OP == "argmax":
        r = tl.argmax(v, AXIS)
    else:
        r = tl.argmin(v, AXIS)
    if AXIS == 0:
        tl.store(out + tl.arange(0, N), r)
    else:
        tl.store(out + tl.arange(0, M), r)


@triton.jit
def multiply(a, b):
    return a * b


@triton.jit
def first_order(a0, b0, a1, b1):
    return a0 * a1, b0 * a1 + b1


@triton.jit
def custom_reduce(x, out, N: tl.constexpr):
    v = tl.load(x + tl.arange(0, N))
    tl.store(out, tl.reduce(v, 0, multiply))


@triton.jit
def max_with_index(a, i, b, j):
    take = (a > b) | ((a == b) & (i < j))
    return tl.where(take, a, b), tl.where(take, i, j)


@triton.jit
def reduce_pair(x, out, index, M: tl.constexpr, N: tl.constexpr):
    columns = tl.arange(0, N)[None, :] + tl.zeros([M, N], tl.int32)
    v = tl.load(x + tl.arange(0, M)[:, None] * N + tl.arange(0, N)[None, :])
    best, at = tl.reduce((v, columns), 1, max_with_index)
    tl.store(out + tl.arange(0, M), best)
    tl.store(index + tl.arange(0, M), at)


@triton.jit
def scan_rows(x, out, M: tl.constexpr, N: tl.constexpr, AXIS: tl.constexpr, OP: tl.constexpr, REVERSE: tl.constexpr):
    at = tl.arange(0, M)[:, None] * N + tl.arange(0, N)[None, :]
    v = tl.load(x + at)
    if OP == "sum":
        r = tl.cumsum(v, AXIS, reverse=REVERSE)
    elif OP == "prod":
        r = tl.cumprod(v, AXIS, reverse=REVERSE)
    else:
        r = tl.associative_scan(v, AXIS, multiply, reverse=REVERSE)
    tl.store(out + at, r)


@triton.jit
def linear_recurrence(a, b, out, N: tl.constexpr):
    i = tl.arange(0, N)
    _, r = tl.associative_scan((tl.load(a + i), tl.load(b + i)), 0, first_order)
    tl.store(out + i, r)


@triton.jit
def sort_rows(x, out, M: tl.constexpr, N: tl.constexpr, DESCENDING: tl.constexpr):
    at = tl.arange(0, M)[:, None] * N + tl.arange(0, N)[None, :]
    tl.store(out + at, tl.sort(tl.load(x + at), 1, DESCENDING))


@triton.jit
def flip_rows(x, out, M: tl.constexpr, N: tl.constexpr):
    at = tl.arange(0, M)[:, None] * N + tl.arange(0, N)[None, :]
    tl.store(out + at, tl.flip(tl.load(x + at), 1))


@triton.jit
def count(x, out, N: tl.constexpr, BINS: tl.constexpr):
    tl.store(out + tl.arange(0, BINS), tl.histogram(tl.load(x + tl.arange(0, N)), BINS))


@triton.jit
def gather_rows(x, index, out, M: tl.constexpr, N: tl.constexpr, AXIS: tl.constexpr):
    at = tl.arange(0, M)[:, None] * N + tl.arange(0, N)[None, :]
    tl.store(out + at, tl.gather(tl.load(x + at), tl.load(index + at), AXIS))


@triton.jit
def shapes(x, y, joined, halves, permuted, turned, whole, M: tl.constexpr, N: tl.constexpr):
    at = tl.arange(0, M)[:, None] * N + tl.arange(0, N)[None, :]
    a, b = tl.load(x + at), tl.load(y + at)
    three = tl.join(a, b)
    tl.store(joined + at[:, :, None] * 2 + tl.arange(0, 2)[None, None, :], three)
    low, high = tl.split(three)
    tl.store(halves + at, low - high)
    cube = tl.reshape(a, (M // 2, 2, N))
    order = tl.permute(cube, (2, 0, 1))
    n, m, two = tl.arange(0, N)[:, None, None], tl.arange(0, M // 2)[None, :, None], tl.arange(0, 2)[None, None, :]
    tl.store(permuted + n * M + m * 2 + two, order)
    tl.store(turned + tl.arange(0, N)[:, None] * M + tl.arange(0, M)[None, :], tl.trans(a))
    wide = tl.interleave(a, b)
    tl.store(whole + tl.arange(0, M)[:, None] * (2 * N) + tl.arange(0, 2 * N)[None, :], wide)


@triton.jit
def concatenate(x, y, out, N: tl.constexpr):
    i = tl.arange(0, N)
    both = tl.cat(tl.load(x + i), tl.load(y + i), can_reorder=True)
    tl.store(out + tl.arange(0, 2 * N), both)


@triton.jit
def matmul(
    a,
    b,
    c,
    out,
    M: tl.constexpr,
    N: tl.constexpr,
    K: tl.constexpr,
    BK: tl.constexpr,
    TA: tl.constexpr,
    TB: tl.constexpr,
    PRECISION: tl.constexpr,
    ACC: tl.constexpr,
):
    m, n, k = tl.arange(0, M), tl.arange(0, N), tl.arange(0, BK)
    acc = tl.load(c + m[:, None] * N + n[None, :]).to(ACC)
    for start in range(0, K, BK):
        if TA:
            x = tl.load(a + (start + k)[None, :] * M + m[:, None])
        else:
            x = tl.load(a + m[:, None] * K + (start + k)[None, :])
        if TB:
            y = tl.load(b + n[None, :] * K + (start + k)[:, None])
        else:
            y = tl.load(b + (start + k)[:, None] * N + n[None, :])
        acc = tl.dot(x, y, acc, input_precision=PRECISION, out_dtype=ACC)
    tl.store(out + m[:, None] * N + n[None, :], acc)


@triton.jit
def batched_matmul(a, b, out, B: tl.constexpr, M: tl.constexpr, N: tl.constexpr, K: tl.constexpr):
    p, m, n, k = tl.arange(0, B), tl.arange(0, M), tl.arange(0, N), tl.arange(0, K)
    x = tl.load(a + p[:, None, None] * M * K + m[None, :, None] * K + k[None, None, :])
    y = tl.load(b + p[:, None, None] * K * N + k[None, :, None] * N + n[None, None, :])
    tl.store(out + p[:, None, None] * M * N + m[None, :, None] * N + n[None, None, :], tl.dot(x, y))


@triton.jit
def chained_dots(a, b, c, out, M: tl.constexpr, N: tl.constexpr):
    m, n = tl.arange(0, M), tl.arange(0, N)
    at = m[:, None] * N + n[None, :]
    square = n[:, None] * N + n[None, :]
    x, y, z = tl.load(a + at), tl.load(b + square), tl.load(c + square)
    first = tl.dot(x, y)
    tl.store(out + at, tl.dot(first.to(x.dtype), tl.trans(z)))


@triton.jit
def scaled_matmul(
    a,
    a_scale,
    b,
    b_scale,
    out,
    M: tl.constexpr,
    N: tl.constexpr,
    K: tl.constexpr,
    A: tl.constexpr,
    B: tl.constexpr,
    A_PACK: tl.constexpr,
    B_PACK: tl.constexpr,
):
    m, n = tl.arange(0, M), tl.arange(0, N)
    ka, kb, ks = tl.arange(0, K // A_PACK), tl.arange(0, K // B_PACK), tl.arange(0, K // 32)
    x = tl.load(a + m[:, None] * (K // A_PACK) + ka[None, :])
    y = tl.load(b + kb[:, None] * N + n[None, :])
    sx = tl.load(a_scale + m[:, None] * (K // 32) + ks[None, :])
    sy = tl.load(b_scale + n[:, None] * (K // 32) + ks[None, :])
    tl.store(out + m[:, None] * N + n[None, :], tl.dot_scaled(x, sx, A, y, sy, B))


@triton.jit
def atomics(
    x, out, old, N: tl.constexpr, CELLS: tl.constexpr, OP: tl.constexpr, SEM: tl.constexpr, SCOPE: tl.constexpr
):
    i = tl.program_id(0) * N + tl.arange(0, N)
    v = tl.load(x + i)
    to = out + (i % CELLS)
    mask = i % 3 != 0
    if OP == "add":
        r = tl.atomic_add(to, v, mask, sem=SEM, scope=SCOPE)
    elif OP == "max":
        r = tl.atomic_max(to, v, mask, sem=SEM, scope=SCOPE)
    elif OP == "min":
        r = tl.atomic_min(to, v, mask, sem=SEM, scope=SCOPE)
    elif OP == "and":
        r = tl.atomic_and(to, v, mask, sem=SEM, scope=SCOPE)
    elif OP == "or":
        r = tl.atomic_or(to, v, mask, sem=SEM, scope=SCOPE)
    elif OP == "xor":
        r = tl.atomic_xor(to, v, mask, sem=SEM, scope=SCOPE)
    else:
        r = tl.atomic_xchg(to, v, mask, sem=SEM, scope=SCOPE)
    if old is not None:
        tl.store(old + i, r, mask)


@triton.jit
def compare_and_swap(x, expected, out, old, N: tl.constexpr, SEM: tl.constexpr, SCOPE: tl.constexpr):
    i = tl.arange(0, N)
    r = tl.atomic_cas(out + i, tl.load(expected + i), tl.load(x + i), sem=SEM, scope=SCOPE)
    tl.store(old + i, r)


@triton.jit
def scalar_atomics(out, old, VALUE: tl.constexpr):
    r = tl.atomic_add(out, VALUE)
    tl.store(old + tl.program_id(0), r)
    while tl.atomic_cas(out + 1, 0, 1) != 0:
        pass
    tl.store(out + 2, tl.load(out + 2, volatile=True) + 1)
    tl.debug_barrier()
    tl.atomic_xchg(out + 1, 0)


@triton.jit
def random_numbers(uniform, normal, ints, seed, N: tl.constexpr):
    i = tl.arange(0, N)
    tl.store(uniform + i, tl.rand(seed, i))
    tl.store(normal + i, tl.randn(seed, i))
    a, b, c, d = tl.randint4x(seed, i)
    tl.store(ints + i, a ^ b ^ c ^ d)
    tl.store(ints + N + i, tl.randint(seed, i))


@triton.jit
def loads(x, out, n, M: tl.constexpr, N: tl.constexpr, CACHE: tl.constexpr, EVICT: tl.constexpr, STORE: tl.constexpr):
    i = tl.program_id(0) * N + tl.arange(0, N)
    mask = i < n
    if CACHE == ".cv":
        v = tl.load(x + i, mask, other=7, cache_modifier=CACHE)
    else:
        v = tl.load(x + i, mask, other=7, cache_modifier=CACHE, eviction_policy=EVICT)
    w = tl.load(x + i, mask, volatile=True, other=1)
    tl.store(out + i, v + w, mask, cache_modifier=STORE)


@triton.jit
def block_pointers(x, out, M, N, BM: tl.constexpr, BN: tl.constexpr):
    source = tl.make_block_ptr(x, (M, N), (N, 1), (tl.program_id(0) * BM, 0), (BM, BN), (1, 0))
    target = tl.make_block_ptr(out, (M, N), (N, 1), (tl.program_id(0) * BM, 0), (BM, BN), (1, 0))
    for _ in range(0, tl.cdiv(N, BN)):
        v = tl.load(source, boundary_check=(0, 1), padding_option="zero")
        tl.store(target, v + 1, boundary_check=(0, 1))
        source = tl.advance(source, (0, BN))
        target = tl.advance(target, (0, BN))


@triton.jit
def descriptors(x, out, M, N, BM: tl.constexpr, BN: tl.constexpr):
    source = tl.make_tensor_descriptor(x, [M, N], [N, 1], [BM, BN])
    target = tl.make_tensor_descriptor(out, [M, N], [N, 1], [BM, BN])
    row = tl.program_id(0) * BM
    for column in range(0, N, BN):
        target.store([row, column], source.load([row, column]) + 1)


@triton.jit
def descriptor_reduce(x, out, M, N, BM: tl.constexpr, BN: tl.constexpr):
    source = tl.make_tensor_descriptor(x, [M, N], [N, 1], [BM, BN])
    target = tl.make_tensor_descriptor(out, [M, N], [N, 1], [BM, BN])
    row = tl.program_id(0) * BM
    for column in range(0, N, BN):
        target.atomic_add([row, column], source.load([row, column]))


@triton.jit
def control(x, out, n, N: tl.constexpr):
    i = tl.arange(0, N)
    v = tl.load(x + i)
    total = tl.zeros([N], v.dtype)
    for k in range(n):
        if k % 2 == 0:
            total += v
        elif k > 4:
            total -= 1
        else:
            total = tl.where(v > 0, total * 2, total)
    j = n
    while j > 0:
        total += j
        j = j // 2
    for k in tl.static_range(3):
        total += k
    tl.store(out + i, total)


@triton.jit(noinline=True)
def callee(v, factor):
    return v * factor + 1


@triton.jit(noinline=True)
def block_sum(p, N: tl.constexpr):
    return tl.sum(tl.load(p + tl.arange(0, N)), 0)


@triton.jit
def calls(x, out, factor, N: tl.constexpr):
    i = tl.arange(0, N)
    scale = callee(factor, factor)
    tl.store(out + i, tl.load(x + i) * callee(scale, factor) + block_sum(x, N))


@triton.jit
def inline_assembly(x, y, out, packed, N: tl.constexpr):
    i = tl.arange(0, N)
    a, b = tl.load(x + i), tl.load(y + i)
    r = tl.inline_asm_elementwise(
        "shf.l.wrap.b32 $0, $1, $2, 5;", "=r,r,r", [a, b], dtype=tl.int32, is_pure=True, pack=1
    )
    tl.store(out + i, r)
    byte = a.to(tl.int8)
    s = tl.inline_asm_elementwise(
        "{ .reg .b32 t; and.b32 t, $1, 0x7f7f7f7f; xor.b32 $0, t, 0x01010101; }",
        "=r,r",
        [byte],
        dtype=tl.int8,
        is_pure=True,
        pack=4,
    )
    tl.store(packed + i, s)


@triton.jit
def messages(x, N: tl.constexpr):
    v = tl.load(x + tl.arange(0, N))
    tl.device_print("value", v)
    tl.device_print("hex", v, hex=True)
    tl.device_assert(v < 1000, "a large value")


@triton.jit
def programs(out):
    at = tl.program_id(0) + tl.num_programs(0) * (tl.program_id(1) + tl.num_programs(1) * tl.program_id(2))
    i, j = tl.swizzle2d(tl.program_id(0), tl.program_id(1), tl.num_programs(0), tl.num_programs(1), 2)
    tl.store(out + at, i * 100 + j + 10000 * tl.num_programs(2))


@triton.jit
def softmax(x, out, columns, N: tl.constexpr):
    i = tl.arange(0, N)
    row = tl.program_id(0) * columns
    v = tl.load(x + row + i, i < columns, other=-float("inf")).to(tl.float32)
    e = tl.exp(v - tl.max(v, 0))
    tl.store(out + row + i, (e / tl.sum(e, 0)).to(out.dtype.element_ty), i < columns)


@triton.jit
def pipelined_matmul(a, b, out, M, N, K, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, GROUP: tl.constexpr):
    pid = tl.program_id(0)
    rows, columns = tl.cdiv(M, BM), tl.cdiv(N, BN)
    group = pid // (GROUP * columns)
    first = group * GROUP
    size = min(rows - first, GROUP)
    m = (first + pid % (GROUP * columns) % size) * BM + tl.arange(0, BM)
    n = (pid % (GROUP * columns)) // size * BN + tl.arange(0, BN)
    k = tl.arange(0, BK)
    acc = tl.zeros((BM, BN), tl.float32)
    for start in range(0, K, BK):
        x = tl.load(a + m[:, None] * K + (start + k)[None, :], mask=(start + k)[None, :] < K, other=0.0)
        y = tl.load(b + (start + k)[:, None] * N + n[None, :], mask=(start + k)[:, None] < K, other=0.0)
        acc = tl.dot(x, y, acc)
    tl.store(out + m[:, None] * N + n[None, :], acc.to(out.dtype.element_ty), (m[:, None] < M) & (n[None, :] < N))


@triton.jit
def flash(q, k, v, out, lse, scale, T, D: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, CAUSAL: tl.constexpr):
    start, head = tl.program_id(0), tl.program_id(1)
    base = head * T * D
    m, d = start * BM + tl.arange(0, BM), tl.arange(0, D)
    query = tl.load(q + base + m[:, None] * D + d[None, :])
    top = tl.full([BM], -float("inf"), tl.float32)
    total = tl.zeros([BM], tl.float32)
    acc = tl.zeros([BM, D], tl.float32)
    end = (start + 1) * BM if CAUSAL else T
    for at in range(0, end, BN):
        n = at + tl.arange(0, BN)
        key = tl.load(k + base + n[None, :] * D + d[:, None])
        scores = tl.dot(query, key) * (scale * 1.44269504)
        if CAUSAL:
            scores = tl.where(m[:, None] >= n[None, :], scores, -1.0e6)
        peak = tl.maximum(top, tl.max(scores, 1))
        p = tl.exp2(scores - peak[:, None])
        fade = tl.exp2(top - peak)
        total = total * fade + tl.sum(p, 1)
        acc = tl.dot(p.to(query.dtype), tl.load(v + base + n[:, None] * D + d[None, :]), acc * fade[:, None])
        top = peak
    tl.store(out + base + m[:, None] * D + d[None, :], (acc / total[:, None]).to(out.dtype.element_ty))
    tl.store(lse + head * T + m, top + tl.log2(total))


@triton.jit
def specialised(a, b, out, M, N, K, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr):
    x = tl.make_tensor_descriptor(a, [M, K], [K, 1], [BM, BK])
    y = tl.make_tensor_descriptor(b, [N, K], [K, 1], [BN, BK])
    z = tl.make_tensor_descriptor(out, [M, N], [N, 1], [BM, BN])
    for tile in tl.range(
        tl.program_id(0), tl.cdiv(M, BM) * tl.cdiv(N, BN), tl.num_programs(0), flatten=True, warp_specialize=True
    ):
        m, n = tile % tl.cdiv(M, BM) * BM, tile // tl.cdiv(M, BM) * BN
        acc = tl.zeros((BM, BN), tl.float32)
        for k in range(0, K, BK):
            acc = tl.dot(x.load([m, k]), y.load([n, k]).T, acc)
        z.store([m, n], acc.to(tl.float16))


@triton.jit
def clocks(out):
    tl.store(out, tl.extra.cuda.globaltimer())
    tl.store(out + 1, tl.extra.cuda.smid().to(tl.int64))
    tl.store(out + 2, tl.extra.cuda.num_threads() + 0 * tl.extra.cuda.num_warps())


@triton.jit
def pointers(table, out, N: tl.constexpr):
    p = tl.load(table + tl.program_id(0)).to(tl.pointer_type(tl.float32))
    i = tl.arange(0, N)
    tl.store(out + tl.program_id(0) * N + i, tl.load(p + i))


@triton.jit
def cube(x, first, second, third, total, A: tl.constexpr, B: tl.constexpr, C: tl.constexpr):
    a, b, c = tl.arange(0, A)[:, None, None], tl.arange(0, B)[None, :, None], tl.arange(0, C)[None, None, :]
    v = tl.load(x + (a * B + b) * C + c)
    tl.store(first + tl.arange(0, B)[:, None] * C + tl.arange(0, C)[None, :], tl.max(v, 0))
    tl.store(second + tl.arange(0, A)[:, None] * C + tl.arange(0, C)[None, :], tl.sum(v, 1))
    tl.store(third + a * B + b, tl.min(v, 2, keep_dims=True))
    tl.store(total, tl.sum(tl.ravel(v)))


@triton.jit
def largest(x, out, M: tl.constexpr, N: tl.constexpr, K: tl.constexpr):
    v = tl.load(x + tl.arange(0, M)[:, None] * N + tl.arange(0, N)[None, :])
    tl.store(out + tl.arange(0, M)[:, None] * K + tl.arange(0, K)[None, :], tl.topk(v, K))


@triton.jit
def descriptors_3d(x, out, A, B, C, BA: tl.constexpr, BB: tl.constexpr, BC: tl.constexpr):
    source = tl.make_tensor_descriptor(x, [A, B, C], [B * C, C, 1], [BA, BB, BC])
    target = tl.make_tensor_descriptor(out, [A, B, C], [B * C, C, 1], [BA, BB, BC])
    for b in range(0, B, BB):
        for c in range(0, C, BC):
            target.store([tl.program_id(0) * BA, b, c], source.load([tl.program_id(0) * BA, b, c]) * 2)
