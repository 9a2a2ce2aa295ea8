"""Gluon kernels: layouts, shared memory, asynchronous copies, mbarriers, tensor copies and wgmma as written by hand."""

from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia import ampere, hopper
from triton.experimental.gluon.language.nvidia.hopper import mbarrier, tma

# Named otherwise before 3.9.
copy_in = getattr(ampere.async_copy, "async_load", ampere.async_copy.async_copy_global_to_shared)
load_tensor = getattr(tma, "async_load", tma.async_copy_global_to_shared)
store_tensor = getattr(tma, "async_store", tma.async_copy_shared_to_global)


@gluon.jit
def convert(x, out, sums, M: gl.constexpr, N: gl.constexpr):
    rows: gl.constexpr = gl.BlockedLayout([1, 4], [4, 8], [4, 1], [1, 0])
    columns: gl.constexpr = gl.BlockedLayout([2, 1], [16, 2], [1, 4], [0, 1])
    m = gl.arange(0, M, gl.SliceLayout(1, rows))
    n = gl.arange(0, N, gl.SliceLayout(0, rows))
    v = gl.convert_layout(gl.load(x + m[:, None] * N + n[None, :]), columns)
    m2 = gl.arange(0, M, gl.SliceLayout(1, columns))
    n2 = gl.arange(0, N, gl.SliceLayout(0, columns))
    gl.store(out + m2[:, None] * N + n2[None, :], v * 2)
    gl.store(sums + m2, gl.sum(v, 1))


@gluon.jit
def transpose_in_shared(x, out, M: gl.constexpr, N: gl.constexpr):
    layout: gl.constexpr = gl.BlockedLayout([1, 4], [4, 8], [4, 1], [1, 0])
    shared: gl.constexpr = gl.SwizzledSharedLayout(4, 2, 8, [1, 0])
    m = gl.arange(0, M, gl.SliceLayout(1, layout))
    n = gl.arange(0, N, gl.SliceLayout(0, layout))
    buffer = gl.allocate_shared_memory(x.dtype.element_ty, [M, N], shared)
    buffer.store(gl.load(x + m[:, None] * N + n[None, :]))
    n2 = gl.arange(0, N, gl.SliceLayout(1, layout))
    m2 = gl.arange(0, M, gl.SliceLayout(0, layout))
    gl.store(out + n2[:, None] * M + m2[None, :], buffer.permute((1, 0)).load(layout))


@gluon.jit
def async_copies(x, out, M: gl.constexpr, N: gl.constexpr, STEPS: gl.constexpr):
    layout: gl.constexpr = gl.BlockedLayout([1, 4], [4, 8], [4, 1], [1, 0])
    shared: gl.constexpr = gl.SwizzledSharedLayout(1, 1, 1, [1, 0])
    m = gl.arange(0, M, gl.SliceLayout(1, layout))
    n = gl.arange(0, N, gl.SliceLayout(0, layout))
    at = m[:, None] * N + n[None, :]
    buffers = gl.allocate_shared_memory(x.dtype.element_ty, [2, M, N], shared)
    copy_in(buffers.index(0), x + at)
    ampere.async_copy.commit_group()
    for step in range(STEPS):
        following = x + at + (step + 1) * M * N
        inside = (m[:, None] >= 0) & (n[None, :] >= 0) & (step + 1 < STEPS)
        copy_in(buffers.index((step + 1) % 2), following, mask=inside)
        ampere.async_copy.commit_group()
        ampere.async_copy.wait_group(1)
        gl.store(out + at + step * M * N, buffers.index(step % 2).load(layout) + 1)


@gluon.jit
def warpgroup_matmul(a, b, out, M: gl.constexpr, N: gl.constexpr, K: gl.constexpr):
    layout: gl.constexpr = gl.BlockedLayout([1, 8], [4, 8], [4, 1], [1, 0])
    shared: gl.constexpr = gl.NVMMASharedLayout(swizzle_byte_width=128, element_bitwidth=16, rank=2)
    result: gl.constexpr = gl.NVMMADistributedLayout(version=[3, 0], warps_per_cta=[4, 1], instr_shape=[16, N, 16])
    m = gl.arange(0, M, gl.SliceLayout(1, layout))
    n = gl.arange(0, N, gl.SliceLayout(0, layout))
    ka = gl.arange(0, K, gl.SliceLayout(0, layout))
    kb = gl.arange(0, K, gl.SliceLayout(1, layout))
    x = gl.allocate_shared_memory(a.dtype.element_ty, [M, K], shared)
    y = gl.allocate_shared_memory(b.dtype.element_ty, [K, N], shared)
    x.store(gl.load(a + m[:, None] * K + ka[None, :]))
    y.store(gl.load(b + kb[:, None] * N + n[None, :]))
    hopper.fence_async_shared()
    acc = gl.zeros([M, N], gl.float32, result)
    acc = hopper.warpgroup_mma(x, y, acc, is_async=True)
    acc = hopper.warpgroup_mma_wait(0, deps=[acc])
    m2 = gl.arange(0, M, gl.SliceLayout(1, result))
    n2 = gl.arange(0, N, gl.SliceLayout(0, result))
    gl.store(out + m2[:, None] * N + n2[None, :], acc)


@gluon.jit
def mma_matmul(a, b, out, M: gl.constexpr, N: gl.constexpr, K: gl.constexpr):
    result: gl.constexpr = gl.NVMMADistributedLayout(version=[2, 0], warps_per_cta=[4, 1], instr_shape=[16, 8])
    left: gl.constexpr = gl.DotOperandLayout(operand_index=0, parent=result, k_width=2)
    right: gl.constexpr = gl.DotOperandLayout(operand_index=1, parent=result, k_width=2)
    m = gl.arange(0, M, gl.SliceLayout(1, left))
    ka = gl.arange(0, K, gl.SliceLayout(0, left))
    kb = gl.arange(0, K, gl.SliceLayout(1, right))
    n = gl.arange(0, N, gl.SliceLayout(0, right))
    x = gl.load(a + m[:, None] * K + ka[None, :])
    y = gl.load(b + kb[:, None] * N + n[None, :])
    acc = ampere.mma_v2(x, y, gl.zeros([M, N], gl.float32, result))
    m2 = gl.arange(0, M, gl.SliceLayout(1, result))
    n2 = gl.arange(0, N, gl.SliceLayout(0, result))
    gl.store(out + m2[:, None] * N + n2[None, :], acc)


@gluon.jit
def tensor_copies(x, out, M, N, BM: gl.constexpr, BN: gl.constexpr):
    shared: gl.constexpr = gl.NVMMASharedLayout(swizzle_byte_width=64, element_bitwidth=16, rank=2)
    source = tma.make_tensor_descriptor(x, [M, N], [N, 1], [BM, BN], shared)
    target = tma.make_tensor_descriptor(out, [M, N], [N, 1], [BM, BN], shared)
    buffer = gl.allocate_shared_memory(x.dtype.element_ty, [BM, BN], shared)
    bar = gl.allocate_shared_memory(gl.int64, [1], mbarrier.MBarrierLayout())
    mbarrier.init(bar, count=1)
    row = gl.program_id(0) * BM
    phase = 0
    for column in range(0, N, BN):
        mbarrier.expect(bar, BM * BN * 2)
        load_tensor(source, [row, column], bar, buffer)
        mbarrier.wait(bar, phase)
        store_tensor(target, [row, column], buffer)
        tma.store_wait(0)
        phase = phase ^ 1
    mbarrier.invalidate(bar)
