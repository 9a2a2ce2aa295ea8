"""Triton programs on a GPU whose driver is a fake, launched by the daemon's executor; run by test_daemon_placement.py.

The program's memory is reached by another process: what a kernel writes there is read here. There is no torch; its
allocator's functions are called as it calls them. Kernels called fill, chase, illegal and print are known to the fake.
Prints a line of JSON for each case: {"case": ..., "error": ...}.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import struct
import sys
import types
from collections.abc import Iterator
from typing import Any

import numpy as np
import triton
import triton.language as tl
import trun.triton
from case_program import run_cases
from trun.errors import IllegalAddressError, QuotaError, TrunError
from trun.triton import LaunchCounter, _native

VERSION = tuple(int(part) for part in triton.__version__.split(".")[:2])
CASES: dict[str, Any] = {}
driver = ctypes.CDLL(os.environ["TRUN_LIBCUDA"])
allocator = ctypes.CDLL(_native.__file__)
allocator.trun_segment_allocate.restype = ctypes.c_uint64
allocator.trun_segment_allocate.argtypes = [ctypes.c_size_t, ctypes.c_int, ctypes.c_void_p]
allocator.trun_segment_free.argtypes = [ctypes.c_uint64, ctypes.c_size_t, ctypes.c_int, ctypes.c_void_p]


def case(function: Any) -> Any:
    CASES[function.__name__] = function
    return function


class Array:
    """As much of a tensor as Triton asks for, at an address."""

    def __init__(self, address: int, count: int, dtype: Any = np.int32) -> None:
        self.dtype = np.dtype(dtype)
        self.shape = (count,)
        self._address = address

    def data_ptr(self) -> int:
        return self._address

    def numel(self) -> int:
        return self.shape[0]

    def numpy(self) -> np.ndarray:
        bytes_ = (ctypes.c_char * (self.shape[0] * self.dtype.itemsize)).from_address(self._address)
        return np.frombuffer(bytes_, self.dtype)


def segment(nbytes: int = 2 << 20) -> int:
    address: int = allocator.trun_segment_allocate(nbytes, 0, None)
    assert address, "the allocator has no memory"
    return address


def block(nbytes: int = 4096) -> int:
    """Memory of the driver's that no allocator of ours knows."""
    address = ctypes.c_uint64()
    assert driver.cuMemAlloc_v2(ctypes.byref(address), ctypes.c_size_t(nbytes)) == 0
    return address.value


@contextlib.contextmanager
def told(**variables: str) -> Iterator[None]:
    os.environ.update({f"TRUN_FAKE_CUDA_{name}": value for name, value in variables.items()})
    try:
        yield
    finally:
        for name in variables:
            del os.environ[f"TRUN_FAKE_CUDA_{name}"]


def fails(kind: type[BaseException], says: str, call: Any, reason: str = "") -> None:
    try:
        call()
    except kind as error:
        assert says in str(error), error
        assert not reason or getattr(error, "reason", "") == reason, error
    else:
        raise AssertionError(f"no {kind.__name__} was raised")


@triton.jit
def fill(out, addend):
    tl.store(out + tl.arange(0, 128), tl.arange(0, 128) + addend)


@triton.jit
def chase(cell):
    target = tl.load(cell).to(tl.pointer_type(tl.int32))
    tl.store(target, tl.load(target) + 1)


@triton.jit
def illegal(out):
    tl.store(out, 1)


def filled(address: int, addend: int) -> None:
    addend += 10  # not 1, which Triton compiles in
    out = Array(address, 256)
    fill[(2,)](out, addend)
    np.testing.assert_array_equal(out.numpy(), np.arange(256) + addend)


def imports() -> int:
    from trun.v1 import tensor_pb2

    session = trun.triton.session()
    session._free_abandoned()
    return len(session._call("TensorService.ListTensors", tensor_pb2.ListTensorsRequest(session=session.id)).tensors)


@case
def a_kernel_of_another_process_writes_the_programs_segment() -> None:
    at = segment(5 << 20)
    assert at % (2 << 20) == 0 and 0x5000_0000_0000 <= at < 0x6000_0000_0000, hex(at)
    filled(at, 5)
    filled(at + 4096, 6)
    kernel = fill[(2,)](Array(at, 256), 7)
    assert kernel.asm["cubin"][:4] == b"\x7fELF"
    assert (kernel.n_regs, kernel.n_spills) == (16, 0)


@case
def an_address_in_memory_means_the_same_to_the_kernel() -> None:
    cell, target = segment(), segment()  # the kernel is told of the first one only
    Array(cell, 1, np.uint64).numpy()[0] = target + 64
    for count in (1, 2):
        chase[(1,)](Array(cell, 1, np.uint64))
        assert Array(target + 64, 1).numpy()[0] == count


@case
def what_is_freed_is_let_go_of() -> None:
    address = segment()
    filled(address, 1)
    before = imports()
    allocator.trun_segment_free(address, 2 << 20, 0, None)
    filled(segment(), 2)
    assert imports() == before, (imports(), before)


@case
def memory_of_another_allocator_is_imported_whole() -> None:
    at = block()
    before = imports()
    filled(at, 3)
    filled(at + 1024, 4)
    assert imports() == before + 1
    driver.cuMemFree_v2(ctypes.c_uint64(at))
    for addend in range(3):
        at = block()
        filled(at, addend)
        driver.cuMemFree_v2(ctypes.c_uint64(at))
    filled(block(), 9)
    assert imports() == before + 1, "blocks that are gone are given up"


@case
def a_fault_costs_its_launch_and_nothing_of_the_program() -> None:
    inside, outside = segment(), block()
    filled(inside, 1)
    filled(outside, 1)
    fails(IllegalAddressError, "", lambda: illegal[(1,)](Array(inside, 4)))
    np.testing.assert_array_equal(Array(inside, 256).numpy(), np.arange(256) + 11)
    filled(inside, 2)
    fails(IllegalAddressError, "", lambda: illegal[(1,)](Array(outside, 4)))
    filled(outside, 2)  # imported anew, into the next executor
    assert driver.cuCtxSynchronize() == 0


@case
def a_launch_waits_for_its_stream() -> None:
    at, log = segment(), os.path.join(os.environ["HOME"], "calls")
    filled(at, 1)
    with told(LOG=log):
        filled(at, 2)
    with open(log) as file:
        calls = file.read().split()
    assert [call for call in calls if call.startswith("cuEvent") or "Launch" in call] == [
        "cuEventCreate",
        "cuEventRecord",
        "cuEventSynchronize",
        "cuEventDestroy_v2",
    ], calls


@case
def a_stream_that_is_captured_is_refused() -> None:
    at = segment()
    filled(at, 1)
    with told(CAPTURING="1"):
        fails(TrunError, "captured into a CUDA graph", lambda: fill[(2,)](Array(at, 256), 8), "UNSUPPORTED_TARGET")
    np.testing.assert_array_equal(Array(at, 256).numpy(), np.arange(256) + 11)


@case
def memory_that_cannot_be_shared_is_refused_with_the_reason() -> None:
    at = block()
    launch = lambda: fill[(2,)](Array(at, 256), 9)  # noqa: E731
    with told(MEMORY="host"):
        fails(ValueError, "argument 0 is pinned memory of the host", launch, "ARGUMENT")
    with told(MEMORY="managed"):
        fails(ValueError, "argument 0 is managed memory", launch, "ARGUMENT")
    with told(OWNER="1"):
        fails(ValueError, "argument 0 is memory of cuda:1", launch, "ARGUMENT")
    with told(FAIL="cuIpcGetMemHandle=1"):
        fails(TrunError, "the driver gives no handle of it", launch, "UNSUPPORTED_TARGET")
    host = np.zeros(256, np.int32)
    fails(ValueError, "cpu tensor?", lambda: fill[(2,)](Array(host.ctypes.data, 256), 9), "ARGUMENT")
    fails(ValueError, "without memory", lambda: fill[(2,)](Array(0, 256), 9))
    filled(at, 1)


@case
def a_kernel_that_triton_has_to_launch_is_refused() -> None:
    from triton.runtime.driver import driver as active

    kernel = types.SimpleNamespace(signature={"image": "tensordesc_im2col<fp16[64, 64]>"})
    made = lambda: active.active.launcher_cls(kernel, types.SimpleNamespace())  # noqa: E731
    fails(TrunError, "an im2col descriptor", made, "UNSUPPORTED_TARGET")


@case
def segments_of_another_gpu_are_refused_with_the_reason() -> None:
    with told(DEVICE_OF_NEW_MEMORY="1"):
        at = segment()
    fails(TrunError, "the memory is of GPU 1", lambda: filled(at, 1), "UNSUPPORTED_TARGET")
    allocator.trun_segment_free(at, 2 << 20, 0, None)
    filled(segment(), 1)


@case
def more_than_the_quota_is_refused_and_what_is_freed_makes_room() -> None:
    limit = trun.triton.session().memory_limit_bytes
    at = segment()
    filled(at, 1)
    large = []
    while len(large) * (6 << 30) <= limit:  # nobody touches it
        large.append(segment(6 << 30))
    fails(QuotaError, "", lambda: filled(at, 2))
    for address in large:
        allocator.trun_segment_free(address, 6 << 30, 0, None)
    filled(at, 3)


@case
def launches_tell_the_gpus_own_time_and_are_ranked_by_it() -> None:
    at = segment()
    before = LaunchCounter.launches, LaunchCounter.device_seconds
    filled(at, 1)
    assert LaunchCounter.launches == before[0] + 1 and LaunchCounter.device_seconds > before[1]
    if VERSION >= (3, 2):
        from triton.runtime.driver import driver as active

        measured = active.active.get_benchmarker()(lambda: filled(at, 2), quantiles=(0.5, 0.2, 0.8))
        assert len(measured) == 3 and min(measured) > 0, measured


@case
def what_a_kernel_prints_is_printed_here() -> None:
    import io

    @triton.jit
    def print(x):
        tl.device_print("value", tl.load(x))

    text, at = io.StringIO(), segment()
    with contextlib.redirect_stdout(text):
        print[(1,)](Array(at, 1))
    assert text.getvalue() == f"value {at & 0xFFFFFFFF}\n", text.getvalue()


def main() -> None:
    trun.triton.install(placement="daemon")
    assert trun.triton.launcher() == "daemon"
    _native.open_segments(0)
    fails(ValueError, "memory of GPU 0", lambda: _native.open_segments(1))
    assert allocator.trun_segment_allocate(1 << 21, 1, None) == 0, "memory of a device that was not opened"
    run_cases(CASES)
    trun.triton.uninstall()


if __name__ == "__main__":
    assert "torch" not in sys.modules and struct.calcsize("P") == 8
    main()
