"""Triton programs as anybody writes them, on arrays of NumPy; run by test_unchanged_programs.py with one Triton.

Prints a line of JSON for each case: {"case": ..., "error": ...}.
"""

from __future__ import annotations

import contextlib
import io
import mmap
import os
import signal
import sys
import tempfile
import threading
from typing import Any

import ml_dtypes
import numpy as np
import triton
import triton.language as tl
import trun
import trun.triton
from case_program import run_cases
from trun.v1 import session_pb2

VERSION = tuple(int(part) for part in triton.__version__.split(".")[:2])
CASES: dict[str, Any] = {}


def case(function: Any) -> Any:
    CASES[function.__name__] = function
    return function


def since(*version: int) -> Any:
    return case if version <= VERSION else lambda function: function


class HostTensor:
    """As much of a torch tensor as Triton asks for."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array
        self.dtype = array.dtype
        self.shape = array.shape
        self.ndim = array.ndim
        self.device = "cpu"

    @property
    def __array_interface__(self) -> Any:
        return self.array.view(f"u{self.array.itemsize}").__array_interface__

    def data_ptr(self) -> int:
        return int(self.array.__array_interface__["data"][0]) if self.array.size else 0

    def stride(self, dim: int | None = None) -> Any:
        strides = tuple(s // self.array.itemsize for s in self.array.strides)
        return strides if dim is None else strides[dim]

    def element_size(self) -> int:
        return int(self.array.itemsize)

    def numel(self) -> int:
        return int(self.array.size)


def aligned(shape: Any, dtype: Any, fill: Any = 0) -> np.ndarray:
    count = int(np.prod(shape))
    raw = np.zeros(count * np.dtype(dtype).itemsize + 64, np.uint8)
    start = -raw.__array_interface__["data"][0] % 64
    array = raw[start : start + count * np.dtype(dtype).itemsize].view(dtype).reshape(shape)
    array[...] = fill
    return array


@triton.jit
def add_kernel(x, y, out, n, BLOCK: tl.constexpr):
    offset = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = offset < n
    tl.store(out + offset, tl.load(x + offset, mask=mask) + tl.load(y + offset, mask=mask), mask=mask)


def add(x: np.ndarray, y: np.ndarray, out: np.ndarray, n: int | None = None) -> Any:
    n = x.size if n is None else n
    return add_kernel[(triton.cdiv(max(n, 1), 256),)](HostTensor(x), HostTensor(y), HostTensor(out), n, BLOCK=256)


@case
def arrays_are_added() -> None:
    for n in (1, 1000, 5003):
        x, y, out = aligned(n, np.float32, np.arange(n)), aligned(n, np.float32, 0.5), aligned(n, np.float32)
        add(x, y, out)
        np.testing.assert_array_equal(out, x + y)


@case
def every_element_type_is_passed() -> None:
    for dtype in (np.int8, np.uint16, np.int64, np.float16, np.float64, ml_dtypes.bfloat16):
        x, y, out = (aligned(300, dtype, value) for value in (3, 4, 0))
        add(x, y, out)
        np.testing.assert_array_equal(out.astype(np.float64), np.full(300, 7.0))


@case
def a_result_may_overwrite_its_input() -> None:
    x, y = aligned(700, np.float32, 1), aligned(700, np.float32, 2)
    add(x, y, x)
    np.testing.assert_array_equal(x, np.full(700, 3, np.float32))


@case
def views_of_one_array_share_it() -> None:
    memory = aligned(2048, np.float32, np.arange(2048))
    before = memory.copy()
    add(memory[:512], memory[512:1024], memory[1536:], n=512)
    np.testing.assert_array_equal(memory[1536:], before[:512] + before[512:1024])
    np.testing.assert_array_equal(memory[:1536], before[:1536])


@case
def overlapping_views_see_each_others_writes() -> None:
    @triton.jit
    def write_then_read(a, b, n, BLOCK: tl.constexpr):
        offset = tl.arange(0, BLOCK)
        tl.store(a + offset, offset.to(tl.float32) + 100, mask=offset < n)
        tl.debug_barrier()
        tl.store(b + n + offset, tl.load(b + offset, mask=offset < n) * 2, mask=offset < n)

    memory = aligned(256, np.float32)
    write_then_read[(1,)](HostTensor(memory[4:]), HostTensor(memory[4:]), 64, BLOCK=64)
    np.testing.assert_array_equal(memory[4 + 64 : 4 + 128], (np.arange(64) + 100) * 2)


@case
def strided_views_are_walked_by_their_strides() -> None:
    @triton.jit
    def double(x, rows, row_stride, col_stride, BLOCK: tl.constexpr):
        col = tl.arange(0, BLOCK)
        at = x + tl.program_id(0) * row_stride + col * col_stride
        tl.store(at, tl.load(at) * 2)

    for matrix in (aligned((6, 32), np.float32, 1)[:, ::-2], aligned((16, 6), np.float32, 1).T):
        tensor = HostTensor(matrix)
        rows, columns = matrix.shape
        double[(rows,)](tensor, rows, tensor.stride(0), tensor.stride(1), BLOCK=columns)
        np.testing.assert_array_equal(matrix, np.full(matrix.shape, 2, np.float32))


@case
def an_unaligned_array_is_another_specialisation() -> None:
    memory = aligned(300, np.float32, 1)
    y, out = aligned(250, np.float32, 2), aligned(250, np.float32)
    add(memory[1:251], y, out)
    np.testing.assert_array_equal(out, np.full(250, 3, np.float32))


@case
def empty_arrays_and_none_are_null_pointers() -> None:
    @triton.jit
    def copy_unless_none(x, out, n, BLOCK: tl.constexpr):
        offset = tl.arange(0, BLOCK)
        if x is not None:
            tl.store(out + offset, tl.load(x + offset, mask=offset < n, other=7.0))

    out = aligned(64, np.float32, 5)
    copy_unless_none[(1,)](None, HostTensor(out), 0, BLOCK=64)
    assert (out == 5).all()
    copy_unless_none[(1,)](HostTensor(aligned(0, np.float32)), HostTensor(out), 0, BLOCK=64)
    assert (out == 7).all()


@case
def numbers_of_every_kind_arrive() -> None:
    @triton.jit
    def store(out, small, large, huge, real, flag):
        tl.store(out, small.to(tl.float64))
        tl.store(out + 1, (large // 1000).to(tl.float64))
        tl.store(out + 2, (huge >> 60).to(tl.float64))
        tl.store(out + 3, real.to(tl.float64))
        tl.store(out + 4, flag.to(tl.float64))

    out = aligned(5, np.float64)
    store[(1,)](HostTensor(out), -7, 1 << 40, (1 << 63) + 5, 0.5, True)
    np.testing.assert_array_equal(out, [-7, (1 << 40) // 1000, 8, 0.5, 1])


@since(3, 4)
def tuples_are_opened() -> None:
    @triton.jit
    def scale(pair, out, BLOCK: tl.constexpr):
        offset = tl.arange(0, BLOCK)
        tl.store(out + offset, tl.load(pair[0] + offset) * pair[1])

    x, out = aligned(64, np.float32, np.arange(64)), aligned(64, np.float32)
    scale[(1,)]((HostTensor(x), 3), HostTensor(out), BLOCK=64)
    np.testing.assert_array_equal(out, x * 3)


@since(3, 4)
def host_made_descriptors_are_passed() -> None:
    from triton.tools.tensor_descriptor import TensorDescriptor

    @triton.jit
    def copy(source, target, BLOCK: tl.constexpr):
        row = tl.program_id(0) * BLOCK
        target.store([row, 0], source.load([row, 0]) + 1)

    x, out = aligned((32, 32), np.float32, np.arange(1024).reshape(32, 32)), aligned((32, 32), np.float32)
    descriptors = [TensorDescriptor(HostTensor(a), [32, 32], [32, 1], [16, 32]) for a in (x, out)]
    copy[(2,)](*descriptors, BLOCK=16)
    np.testing.assert_array_equal(out, x + 1)


@case
def what_a_kernel_prints_is_written() -> None:
    @triton.jit
    def shout(n):
        tl.device_print("number", n)

    written = io.StringIO()
    with contextlib.redirect_stdout(written):
        shout[(1,)](4711)
    assert "number" in written.getvalue() and "4711" in written.getvalue(), written.getvalue()


@case
def a_failed_assertion_is_raised_and_the_next_launch_runs() -> None:
    @triton.jit(debug=True)
    def check(x):
        tl.device_assert(tl.load(x) == 3, "must be three")

    try:
        check[(1,)](HostTensor(aligned(1, np.int32, 4)), debug=True)
    except trun.DeviceAssertError as error:
        assert isinstance(error, RuntimeError)
        assert "must be three" in str(error), error
    else:
        raise AssertionError("the assertion was not raised")
    check[(1,)](HostTensor(aligned(1, np.int32, 3)), debug=True)
    arrays_are_added()


@case
def an_access_past_the_end_is_raised_with_its_place() -> None:
    x, y, out = (aligned(256, np.float32) for _ in range(3))
    try:
        add(x[:40].copy(), y, out, n=256)
    except trun.IllegalAddressError as error:
        assert error.fault is not None and error.fault.source_file.endswith("unchanged_program.py"), error
        assert (out == 0).all()
    else:
        raise AssertionError("an access past the end was not seen")


@triton.jit
def endless_kernel(flag, limit):
    while tl.atomic_add(flag, 0) < limit:
        pass


@case
def an_endless_kernel_is_ended_at_the_deadline_of_the_environment() -> None:
    flag = HostTensor(aligned(1, np.int32))
    for given, error in (("0.3", trun.HungKernelError), ("soon", trun.ArgumentError), ("-1", trun.ArgumentError)):
        os.environ["TRUN_LAUNCH_DEADLINE"] = given
        try:
            endless_kernel[(1,)](flag, 5)
        except error:
            pass
        else:
            raise AssertionError("the endless kernel ended")
        finally:
            del os.environ["TRUN_LAUNCH_DEADLINE"]
    arrays_are_added()


@case
def an_executor_killed_under_a_launch_is_told_and_the_next_launch_runs() -> None:
    session = trun.triton.session()

    def information() -> Any:
        listed = session._call("SessionService.ListSessions", session_pb2.ListSessionsRequest()).sessions
        return next(each for each in listed if each.session == session.id)

    def kill() -> None:
        while not ended.wait(0.01):  # an executor that dies before the launch has reached it is replaced
            now = information()
            if now.launches > before and now.executor_pid > 0:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(now.executor_pid, signal.SIGKILL)

    ended = threading.Event()
    before = information().launches
    killer = threading.Thread(target=kill)
    killer.start()
    try:
        endless_kernel[(1,)](HostTensor(aligned(1, np.int32)), 5)
    except trun.ExecutorLostError:
        pass
    else:
        raise AssertionError("the endless kernel ended")
    finally:
        ended.set()
        killer.join()
    arrays_are_added()


@case
def static_assertions_ranges_and_prints_are_done_while_it_is_compiled() -> None:
    @triton.jit
    def unrolled(out, STEPS: tl.constexpr):
        tl.static_assert(STEPS < 5, "at most four steps")
        tl.static_print("steps", STEPS)
        for step in tl.static_range(STEPS):
            tl.store(out + step, step * 10)

    out, written = aligned(8, np.int32, -1), io.StringIO()
    with contextlib.redirect_stdout(written):
        unrolled[(1,)](HostTensor(out), STEPS=4)
    np.testing.assert_array_equal(out, [0, 10, 20, 30, -1, -1, -1, -1])
    assert "steps" in written.getvalue() and "4" in written.getvalue(), written.getvalue()
    try:
        unrolled[(1,)](HostTensor(out), STEPS=5)
    except Exception as error:  # which class of Triton's it is differs by version
        assert type(error).__module__.startswith("triton.") and "at most four steps" in str(error), error
    else:
        raise AssertionError("the assertion was passed over")
    assert out[4] == -1


@case
def hooks_surround_a_launch() -> None:
    seen: list[str] = []
    x, y, out = (aligned(8, np.float32, 1) for _ in range(3))
    if VERSION >= (3, 4):
        from triton import knobs

        owner, names = knobs.runtime, ("launch_enter_hook", "launch_exit_hook")
    else:
        from triton.compiler import CompiledKernel

        owner, names = CompiledKernel, ("launch_enter_hook", "launch_exit_hook")
    before = [getattr(owner, name) for name in names]
    for name, word in zip(names, ("enter", "exit"), strict=True):
        hook = lambda metadata, word=word: seen.append(f"{word} {metadata.get()['name']}")  # noqa: E731
        setattr(owner, name, staticmethod(hook) if owner is not before and VERSION < (3, 4) else hook)
    try:
        add(x, y, out)
    finally:
        for name, value in zip(names, before, strict=True):
            setattr(owner, name, value)
    assert seen == ["enter add_kernel", "exit add_kernel"], seen


@case
def a_grid_without_programs_launches_nothing() -> None:
    out = aligned(8, np.float32, 9)
    add_kernel[(0,)](HostTensor(out), HostTensor(out), HostTensor(out), 8, BLOCK=256)
    assert (out == 9).all()


@case
def warmup_compiles_every_level_and_cubin_on_demand() -> None:
    x = HostTensor(aligned(8, np.float32))
    kernel = add_kernel.warmup(x, x, x, 8, BLOCK=128, grid=(1,))
    assert "tt.func" in kernel.asm["ttir"] and ".entry add_kernel" in kernel.asm["ptx"]
    assert "#blocked" in kernel.asm["ttgir"] and "define" in kernel.asm["llir"]
    assert kernel.asm["cubin"][:4] == b"\x7fELF"
    assert kernel.metadata.num_warps == 4 and kernel.metadata.name == "add_kernel"


@case
def options_of_a_launch_and_of_the_environment_reach_the_compiler() -> None:
    @triton.jit
    def multiply_add(x, BLOCK: tl.constexpr):
        offset = tl.arange(0, BLOCK)
        tl.store(x + offset, tl.load(x + offset) * 1.5 + 1.0)

    x = HostTensor(aligned(256, np.float32, 2))
    assert "fma.rn.f32" in multiply_add[(1,)](x, BLOCK=256, num_warps=8, enable_fp_fusion=True).asm["ptx"]
    np.testing.assert_array_equal(x.array, np.full(256, 4, np.float32))
    plain = multiply_add[(1,)](x, BLOCK=256, num_warps=8, enable_fp_fusion=False).asm["ptx"]
    assert "fma.rn.f32" not in plain
    assert "256" in next(line for line in plain.splitlines() if "ntid" in line and "." in line)
    if VERSION < (3, 2):
        return  # no such variable
    os.environ["TRITON_DEFAULT_FP_FUSION"] = "0"
    try:
        assert "fma.rn.f32" not in multiply_add[(1,)](x, BLOCK=256, num_warps=2).asm["ptx"]
    finally:
        del os.environ["TRITON_DEFAULT_FP_FUSION"]


@since(3, 4)
def another_arch_is_compiled_by_the_programs_own_triton() -> None:
    out = HostTensor(aligned(8, np.float32, 1))
    kernel = add_kernel[(1,)](out, out, out, 8, BLOCK=64, arch="sm75", num_warps=2)
    assert "cuda:75" in kernel.asm["ttgir"]
    os.environ["TRITON_OVERRIDE_ARCH"] = "sm75"
    try:
        kernel = add_kernel[(1,)](out, out, out, 8, BLOCK=32, num_warps=2)
    finally:
        del os.environ["TRITON_OVERRIDE_ARCH"]
    assert "cuda:75" in kernel.asm["ttgir"]
    np.testing.assert_array_equal(out.array, np.full(8, 4, np.float32))


@case
def a_known_specialisation_is_not_compiled_again() -> None:
    x, y, out = (aligned(96, np.float32, 1) for _ in range(3))
    add(x, y, out)
    connection = trun.triton.session()._connection
    calls: list[str] = []
    original = connection.receive
    connection.receive = lambda name, *rest, **named: calls.append(name) or original(name, *rest, **named)
    try:
        add(x, y, out)
    finally:
        del connection.receive
    assert calls == [], calls


@case
def too_much_shared_memory_is_tritons_own_error() -> None:
    from triton.runtime.errors import OutOfResources

    @triton.jit
    def matmul(a, b, c, steps):
        r = tl.arange(0, 64)
        at = r[:, None] * 64 + r[None, :]
        sum = tl.zeros((64, 64), tl.float32)
        for step in range(steps):
            sum = tl.dot(tl.load(a + step * 4096 + at), tl.load(b + step * 4096 + at), sum)
        tl.store(c + at, sum)

    a = HostTensor(aligned((64, 64), np.float16))
    try:
        matmul[(1,)](a, a, HostTensor(aligned((64, 64), np.float32)), 20, num_stages=18)
    except OutOfResources:
        return
    raise AssertionError("no OutOfResources")


@since(3, 2)  # before, the autotuner imports torch
def autotune_takes_what_executes_least() -> None:
    @triton.autotune([triton.Config({"BLOCK": b}) for b in (2048, 256)], key=["n"])
    @triton.jit
    def fill(out, n, BLOCK: tl.constexpr):
        for at in range(0, n, BLOCK):
            offset = at + tl.arange(0, BLOCK)
            tl.store(out + offset, 1.0, mask=offset < n)

    out = aligned(256, np.float32)
    fill[(1,)](HostTensor(out), 256)
    assert (out == 1).all()
    assert fill.best_config.kwargs["BLOCK"] == 256, fill.best_config


@since(3, 4)
def gluon_kernels_run() -> None:
    from triton.experimental import gluon
    from triton.experimental.gluon import language as gl

    @gluon.jit
    def copy(source, target, BLOCK: gl.constexpr):
        layout: gl.constexpr = gl.BlockedLayout([1], [32], [4], [0])
        offset = gl.arange(0, BLOCK, layout=layout)
        gl.store(target + offset, gl.load(source + offset) + 1)

    x, out = aligned(128, np.float32, 4), aligned(128, np.float32)
    copy[(1,)](HostTensor(x), HostTensor(out), BLOCK=128)
    assert (out == 5).all()


@since(3, 8)
def im2col_descriptors_run() -> None:
    if sys.argv[1] != "sm_90":
        return
    from triton.experimental import gluon
    from triton.experimental.gluon import language as gl
    from triton.experimental.gluon.language.nvidia.hopper import mbarrier, tma
    from triton.experimental.gluon.nvidia.hopper import TensorDescriptorIm2Col

    @gluon.jit
    def row_of_taps(desc, out, PIXELS: gl.constexpr, CHANNELS: gl.constexpr):
        layout: gl.constexpr = gl.BlockedLayout([1, 4], [4, 8], [4, 1], [1, 0])
        buffer = gl.allocate_shared_memory(desc.dtype, [PIXELS, CHANNELS], desc.layout)
        bar = gl.allocate_shared_memory(gl.int64, [1], mbarrier.MBarrierLayout())
        mbarrier.init(bar, count=1)
        mbarrier.expect(bar, PIXELS * CHANNELS * 4)
        tap = gl.program_id(0)
        tma.async_load_im2col(desc, [0, -1, 0], [tap.to(gl.int16)], bar, buffer)
        mbarrier.wait(bar, 0)
        mbarrier.invalidate(bar)
        rows = tap * PIXELS + gl.arange(0, PIXELS, gl.SliceLayout(1, layout))
        columns = gl.arange(0, CHANNELS, gl.SliceLayout(0, layout))
        gl.store(out + rows[:, None] * CHANNELS + columns[None, :], buffer.load(layout))

    x = aligned(2 * 8 * 16, np.float32).reshape(2, 8, 16)
    x[:] = np.arange(x.size, dtype=np.float32).reshape(x.shape) + 1.0001
    out = aligned(3 * 16 * 16, np.float32)
    shared = gl.NVMMASharedLayout(swizzle_byte_width=64, element_bitwidth=32, rank=2)
    for rounds in (False, True):
        desc = TensorDescriptorIm2Col.from_tensor(
            HostTensor(x),
            [16, 16],
            shared,
            round_f32_to_tf32=rounds,
            pixel_box_lower_corner=[-1],
            pixel_box_upper_corner=[-1],
        )
        row_of_taps[(3,)](desc, HostTensor(out), PIXELS=16, CHANNELS=16)
        padded = np.pad(x, ((0, 0), (1, 1), (0, 0)))
        expected = np.stack([padded[:, tap : tap + 8].reshape(16, 16) for tap in range(3)])
        if rounds:
            expected = ((expected.view(np.uint32) + 0x1000) & np.uint32(0xFFFFE000)).view(np.float32)
        np.testing.assert_array_equal(out.reshape(3, 16, 16), expected)


@case
def a_tensor_without_memory_is_refused() -> None:
    class Meta(HostTensor):
        def data_ptr(self) -> int:
            return 0

    x, out = aligned(64, np.float32, 1), aligned(64, np.float32)
    try:
        add_kernel[(1,)](HostTensor(x), Meta(x), HostTensor(out), 64, BLOCK=256)
    except trun.ArgumentError as error:
        assert "argument 1 is a tensor without memory" in str(error), error
    else:
        raise AssertionError("a tensor without memory was taken")
    assert (out == 0).all()


@case
def memory_that_is_read_only_may_be_read_and_is_not_written() -> None:
    with tempfile.TemporaryFile() as file:
        file.write(np.full(1024, 3, np.float32).tobytes())
        file.flush()
        constant = np.frombuffer(mmap.mmap(file.fileno(), 4096, prot=mmap.PROT_READ), np.float32)
    out = aligned(1024, np.float32)
    add(constant, constant, out)
    np.testing.assert_array_equal(out, np.full(1024, 6, np.float32))
    try:
        add(out, out, constant)
    except trun.ArgumentError as error:
        assert "read-only" in str(error), error
    else:
        raise AssertionError("read-only memory was written")
    np.testing.assert_array_equal(constant, np.full(1024, 3, np.float32))


@case
def an_address_in_no_tensor_is_refused() -> None:
    @triton.jit
    def touch(x):
        tl.store(x, 1.0)

    class Foreign:
        dtype = np.dtype(np.float32)

        def data_ptr(self) -> int:
            return 0x1000

    try:
        touch[(1,)](Foreign())
    except trun.ArgumentError as error:
        assert "untyped_storage" in str(error)
    else:
        raise AssertionError("a tensor without a size was taken")


def main() -> None:
    trun.triton.install(placement="emulator", arch=sys.argv[1], compile=sys.argv[2])
    run_cases(CASES)
    trun.triton.uninstall()


if __name__ == "__main__":
    main()
