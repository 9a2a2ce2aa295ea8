"""Triton programs on a GPU whose driver is a fake, launched by trun's launcher; run by test_in_process_launches.py.

There is no torch, and no C compiler that Triton could call. Kernels called note and fill are known to the fake: what
reaches the driver is compared with what was passed. Prints a line of JSON for each case: {"case": ..., "error": ...}.
"""

from __future__ import annotations

import ctypes
import json
import os
import struct
import sys
from typing import Any

import numpy as np
import triton
import triton.language as tl
import trun.triton
from case_program import run_cases
from trun.triton import _native

VERSION = tuple(int(part) for part in triton.__version__.split(".")[:2])
HIDDEN = 0 if VERSION < (3, 3) else 1 if VERSION < (3, 5) else 2
CASES: dict[str, Any] = {}
driver = ctypes.CDLL(os.environ["TRUN_LIBCUDA"])
driver.trunFakeCudaLastLaunch.restype = ctypes.c_char_p


def case(function: Any) -> Any:
    CASES[function.__name__] = function
    return function


def since(*version: int) -> Any:
    return case if version <= VERSION else lambda function: function


class GpuTensor:
    """As much of a tensor as Triton asks for, in the fake's device memory."""

    def __init__(self, count: int, dtype: Any = np.float32) -> None:
        self.dtype = np.dtype(dtype)
        self.shape = (count,)
        self._address = ctypes.c_uint64()
        assert driver.cuMemAlloc_v2(ctypes.byref(self._address), ctypes.c_size_t(count * self.dtype.itemsize)) == 0

    def data_ptr(self) -> int:
        return self._address.value

    def numpy(self) -> np.ndarray:
        bytes_ = (ctypes.c_char * (self.shape[0] * self.dtype.itemsize)).from_address(self._address.value)
        return np.frombuffer(bytes_, self.dtype)


class Elsewhere:
    """A tensor whose memory is at that address, which no allocation of the GPU covers."""

    def __init__(self, address: int, count: int = 4) -> None:
        self.dtype = np.dtype(np.float32)
        self._address, self._count = address, count

    def data_ptr(self) -> int:
        return self._address

    def numel(self) -> int:
        return self._count


def last_launch() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(driver.trunFakeCudaLastLaunch())
    found["parameters"] = bytes.fromhex(found["parameters"])
    return found


def fails(kind: type[BaseException], says: str, call: Any) -> None:
    try:
        call()
    except kind as error:
        assert says in str(error), error
    else:
        raise AssertionError(f"no {kind.__name__} was raised")


@triton.jit
def note(x, n):
    tl.store(x, n)


@case
def numbers_of_every_kind_arrive() -> None:
    @triton.jit
    def note(x, small, large, huge, real, flag, one, none, BLOCK: tl.constexpr):
        if none is None:
            tl.store(x, small + large + huge + real + flag + one + BLOCK)

    x = GpuTensor(4)
    note[(3, 2)](x, -7, 1 << 40, (1 << 63) + 5, 0.5, True, 1, None, BLOCK=16)
    launch = last_launch()
    given = (x.data_ptr(), -7, 1 << 40, (1 << 63) + 5, 0.5, 1)
    hidden = 0 if HIDDEN == 0 else (HIDDEN * 8 + 3)  # the flag's byte is padded to the next pointer
    assert len(launch["parameters"]) == 37 + hidden, (len(launch["parameters"]), hidden)
    assert struct.unpack_from("<Qi4xqQf?", launch["parameters"]) == given
    assert launch["parameters"][37:].count(0) == hidden
    assert launch["grid"] == [3, 2, 1] and launch["stream"] == 0 and launch["attributes"] == {}, launch


@case
def a_kernel_writes_to_the_programs_memory() -> None:
    @triton.jit
    def fill(out, addend):
        tl.store(out + tl.arange(0, 128), tl.arange(0, 128) + addend)

    out = GpuTensor(256, np.int32)
    kernel = fill[(2,)](out, 5)
    np.testing.assert_array_equal(out.numpy(), np.arange(256) + 5)
    assert kernel.asm["cubin"][:4] == b"\x7fELF"
    assert (kernel.n_regs, kernel.n_spills) == (16, 0)


@case
def options_of_a_launch_reach_the_driver() -> None:
    x = GpuTensor(4, np.int32)
    note[(5,)](x, 3, num_warps=8)
    assert last_launch()["block"] == [256, 1, 1]
    if VERSION < (3, 4):
        return
    note[(5,)](x, 3, launch_cooperative_grid=True, launch_pdl=True)
    assert last_launch()["attributes"] == {"6": 1, "2": 1}, last_launch()


@since(3, 4)
def clusters_multiply_the_grid() -> None:
    @triton.jit
    def note(x, n):
        offset = tl.arange(0, 256)
        tl.store(x + offset, offset + n)

    note[(5, 2)](GpuTensor(256, np.int32), 3, num_ctas=2)
    launch = last_launch()
    assert launch["grid"] == [10, 2, 1] and launch["attributes"] == {"4": [2, 1, 1], "5": 1}, launch


@since(3, 4)
def tuples_are_opened() -> None:
    @triton.jit
    def note(pair, x):
        tl.store(x, tl.load(pair[0]) + pair[1])

    a, x = GpuTensor(1, np.int32), GpuTensor(1, np.int32)
    note[(1,)]((a, 3), x)
    assert struct.unpack_from("<Qi4xQ", last_launch()["parameters"]) == (a.data_ptr(), 3, x.data_ptr())


@since(3, 4)
def scratch_memory_comes_from_the_programs_allocator() -> None:
    @triton.jit
    def note(x, rows):
        made = tl.make_tensor_descriptor(x, [rows, 64], [64, 1], [16, 64])
        made.store([0, 0], made.load([16, 0]))

    asked = []
    scratch = GpuTensor(4096, np.int8)

    def allocate(size: int, align: int, stream: Any) -> GpuTensor:
        asked.append((size, align, stream))
        return scratch

    x = GpuTensor(64 * 32)
    fails(RuntimeError, "no allocator was set", lambda: note[(3, 2)](x, 32))
    triton.set_allocator(allocate)
    note[(3, 2)](x, 32)
    hidden = struct.unpack_from(f"<{HIDDEN}Q", last_launch()["parameters"][-8 * HIDDEN :])
    assert hidden == (scratch.data_ptr(), 0)[:HIDDEN], hidden
    assert len(asked) == 1 and asked[0][0] % (6 * 128) == 0 and asked[0][0] > 0 and asked[0][2] == 0, asked


@since(3, 4)
def descriptors_made_by_the_host_are_maps_by_value() -> None:
    from triton.tools.tensor_descriptor import TensorDescriptor

    @triton.jit
    def note(source, x):
        tl.store(x, tl.sum(source.load([0, 0])))

    matrix, x = GpuTensor(48 * 64), GpuTensor(1)
    note[(1,)](TensorDescriptor(matrix, [48, 64], [64, 1], [16, 64]), x)
    parameters = last_launch()["parameters"]
    at = parameters.index(struct.pack("<Q", matrix.data_ptr()))  # the compiler aligns it as it likes
    # As the fake writes a map: address, rank, innermost extent, innermost extent of the box (of 128 swizzled bytes).
    assert struct.unpack_from("<4Q", parameters, at) == (matrix.data_ptr(), 2, 64, 32)
    assert struct.unpack_from("<2i2qQ", parameters, at + 128) == (48, 64, 64, 1, x.data_ptr())
    bad = TensorDescriptor(GpuTensor(64), [8, 8], [8, 1], [8, 8])
    bad.strides = [1, 8]
    fails(ValueError, "last stride", lambda: note[(1,)](bad, x))


@case
def memory_that_the_gpu_cannot_reach_is_refused() -> None:
    host = np.zeros(4, np.float32)
    fails(
        ValueError,
        "(at 0) cannot be accessed from Triton (cpu tensor?)",
        lambda: note[(1,)](Elsewhere(host.ctypes.data), 3),
    )
    fails(ValueError, "without memory", lambda: note[(1,)](Elsewhere(0), 3))
    note[(1,)](Elsewhere(0, count=0), 3)
    assert last_launch()["parameters"][:8] == bytes(8)
    x = GpuTensor(4)
    os.environ["TRUN_FAKE_CUDA_OWNER"] = "1"
    try:
        fails(ValueError, "memory of cuda:1, the launch is on cuda:0", lambda: note[(1,)](x, 3))
    finally:
        del os.environ["TRUN_FAKE_CUDA_OWNER"]
    note[(1,)](x, 3)


@case
def a_tensor_that_raises_is_heard() -> None:
    class Broken(Elsewhere):
        broken = False

        def data_ptr(self) -> int:
            if self.broken:
                raise RuntimeError("its storage is gone")
            return super().data_ptr()

    tensor = Broken(GpuTensor(4).data_ptr())
    kernel = note[(1,)](tensor, 3)
    tensor.broken = True
    leading = (1, 1, 1, 0, kernel.function, None, None, None, None)
    fails(RuntimeError, "its storage is gone", lambda: kernel.run(*leading, tensor, 3))
    fails(TypeError, "data_ptr method", lambda: kernel.run(*leading, "text", 3))
    fails(TypeError, "takes 2 arguments, not 1", lambda: kernel.run(*leading, tensor))
    fails(TypeError, "", lambda: kernel.run(*leading, None, "3"))
    fails(OverflowError, "", lambda: kernel.run(*leading, None, 1 << 40))
    fails(OverflowError, "2^31 - 1", lambda: kernel.run(1 << 31, *leading[1:], None, 3))


@case
def another_kernels_parameters_are_not_taken() -> None:
    kernel = note[(1,)](GpuTensor(4), 3)
    launch = _native.launcher(("*fp32", "i64"), 128, (1, 1, 1), 0, False, False, HIDDEN, None)
    call = lambda: launch(1, 1, 1, 0, kernel.function, None, None, None, None, None, 3)  # noqa: E731
    fails(TypeError, "the kernel's parameters are not those of its signature: parameter 1", call)
    launch = _native.launcher(("*fp32",), 128, (1, 1, 1), 0, False, False, HIDDEN, None)
    call = lambda: launch(1, 1, 1, 0, kernel.function, None, None, None, None, None)  # noqa: E731
    fails(TypeError, "the kernel's parameters are not those of its signature", call)


@case
def hooks_surround_a_launch_and_what_they_raise_is_raised() -> None:
    x = GpuTensor(4)
    kernel = note[(1,)](x, 3)
    seen: list[Any] = []
    hooks = (lambda metadata: seen.append(("enter", metadata)), lambda metadata: seen.append(("exit", metadata)))
    kernel.run(1, 1, 1, 0, kernel.function, None, "metadata", *hooks, x, 3)
    assert seen == [("enter", "metadata"), ("exit", "metadata")], seen
    kernel.run(0, 1, 1, 0, kernel.function, None, "none", *hooks, x, 3)  # nothing is launched; hooks are called

    def refuse(metadata: Any) -> None:
        raise KeyError("refused")

    fails(KeyError, "refused", lambda: kernel.run(1, 1, 1, 0, kernel.function, None, None, refuse, None, x, 3))
    assert len(seen) == 4, seen


@case
def errors_of_the_driver_are_raised_as_triton_words_them() -> None:
    x = GpuTensor(4)
    note[(1,)](x, 3)
    os.environ["TRUN_FAKE_CUDA_FAIL"] = "cuLaunchKernelEx=701"
    try:
        fails(RuntimeError, "Triton Error [CUDA]: as the fake driver was told to say", lambda: note[(1,)](x, 3))
    finally:
        del os.environ["TRUN_FAKE_CUDA_FAIL"]
    note[(1,)](x, 3)
    fails(RuntimeError, "Triton Error [CUDA]", lambda: _native.load("absent", triton_cubin(), 0, 0))
    assert _native.device_properties(0)["max_shared_mem"] == 232448
    fails(RuntimeError, "Triton Error [CUDA]", lambda: _native.device_properties(9))


def triton_cubin() -> bytes:
    cubin: bytes = note[(1,)](GpuTensor(4), 3).asm["cubin"]
    return cubin


@since(3, 4)
def halves_are_rounded_as_numpy_rounds_them() -> None:
    @triton.jit
    def note(x, half: tl.float16, other: tl.bfloat16, double: tl.float64):
        tl.store(x, half + other + double)

    x = GpuTensor(4)
    for value in (0.1, -1 / 3, 65504.0, 65519.0, 2049.0, 2051.0, 6e-8, 1e-5, -6.1e-5, 3e-8, 0.0, float("inf")):
        note[(1,)](x, value, value, value)
        half, other, double = struct.unpack_from("<HH4xd", last_launch()["parameters"], 8)
        with np.errstate(over="ignore"):
            assert half == int(np.float16(value).view(np.uint16)), value
            assert other == int(np.float32(value).view(np.uint32)) >> 16, value  # cut off, as Triton does
        assert double == value
    note[(1,)](x, float("nan"), 0.0, 0.0)
    assert np.isnan(np.frombuffer(last_launch()["parameters"][8:10], np.float16)[0])
    fails(OverflowError, "too large for fp16", lambda: note[(1,)](x, 65520.0, 0.0, 0.0))


def main() -> None:
    trun.triton.install(placement="in-process")
    assert trun.triton.launcher() == "native", trun.triton.launcher()
    run_cases(CASES)
    trun.triton.uninstall()


if __name__ == "__main__":
    assert "torch" not in sys.modules
    main()
