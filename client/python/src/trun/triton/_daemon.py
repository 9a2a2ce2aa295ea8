"""Triton's CUDA driver for the placement "daemon": kernels are launched by the session's executor.

A launch is ordered with the program's streams by the host: it begins when what was queued in the caller's stream is
done, and returns when it is done itself. A chain that alternates between two processes costs as much where the GPU does
the waiting (docs/adr/0020-torch-in-the-daemon.md).
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import numpy as np

from trun.errors import HandleError, TrunError, argument_error, make_error
from trun.session import Session
from trun.triton._cuda import CudaUtils, needs_tritons_launcher, program_driver
from trun.triton._driver import launcher_class
from trun.triton._gpu_memory import GpuMemory
from trun.triton._launcher import LaunchCounter, LoadedKernel, signature_entries
from trun.triton._segments import DEVICE
from trun.triton._stages import DaemonCompiler, KernelSource

_ROUNDS = 10
_LAUNCHES_BETWEEN_SETTLINGS = 256


class DaemonUtils(CudaUtils):
    """Kernels are loaded by the daemon; what Triton asks of the device is this process's own answer."""

    def __init__(self, compiler: DaemonCompiler, *given: Any) -> None:
        super().__init__(*given)
        self._compiler = compiler

    def load_binary(self, name: str, binary: bytes, shared: int, device: int) -> tuple[Any, ...]:
        if device != DEVICE:
            raise argument_error(
                f"the launch is on cuda:{device}; launches of the placement 'daemon' are on cuda:{DEVICE}: name one "
                "GPU in CUDA_VISIBLE_DEVICES, or use placement='in-process'"
            )
        source = KernelSource.from_bytes(binary)
        # Registers, spills and threads are what this driver says of the same code.
        cubin: Any = self._compiler.compile(source, to="cubin").asm["cubin"]
        kernel = LoadedKernel(self._compiler, source)
        module, _, *facts = super().load_binary(name, cubin, shared, device)
        super().unload_module(module)
        return (kernel, kernel, *facts)

    def unload_module(self, module: Any) -> None:
        """The kernel is released with its last reference."""


def device_time_benchmark(kernel_call: Callable[[], Any], *, quantiles: Sequence[float], **_: Any) -> list[float]:
    """How Triton's autotuner ranks configurations: by the GPU's own time of the launches, in milliseconds."""
    kernel_call()
    times = []
    for _round in range(_ROUNDS):
        before = LaunchCounter.device_seconds
        kernel_call()
        times.append((LaunchCounter.device_seconds - before) * 1e3)
    return [float(time) for time in np.quantile(times, quantiles)]


def daemon_driver(
    base: Any,
    native: ModuleType,
    compiler: DaemonCompiler,
    memory_of: Callable[[], GpuMemory],
    forget: Callable[[TrunError, Session], bool],
    settle: Callable[[], None],
) -> type:
    """Triton's CUDA driver ``base`` with kernels and launches in the daemon. ``settle`` is called now and then."""

    def forget_lost(error: TrunError, session: Session) -> bool:
        if forget(error, session):
            return True
        # Foreign memory went with an executor; the launch did not begin.
        return isinstance(error, HandleError) and memory_of().forget_foreign()

    begun = itertools.count(1)  # next() on it is atomic

    def begin(stream: Any) -> None:
        if not native.await_stream(stream):
            raise make_error(
                "the stream is being captured into a CUDA graph, which holds only what this process launches itself: "
                "use placement='in-process' for programs that capture their kernels",
                reason="UNSUPPORTED_TARGET",
                code="FAILED_PRECONDITION",
            )
        if next(begun) % _LAUNCHES_BETWEEN_SETTLINGS == 0:
            settle()

    launcher = launcher_class(memory_of, forget_lost, begin)

    def launcher_of(src: Any, metadata: Any) -> Any:
        if what := needs_tritons_launcher(signature_entries(src)[0], metadata):
            raise make_error(
                f"a kernel with {what} is launched by Triton's own launcher, in this process: use "
                "placement='in-process'",
                reason="UNSUPPORTED_TARGET",
                code="FAILED_PRECONDITION",
            )
        return launcher(src, metadata)

    driver: Any = program_driver(base, native, functools.partial(DaemonUtils, compiler))

    class DaemonCudaDriver(driver):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.launcher_cls = launcher_of

        def get_benchmarker(self) -> Any:
            return device_time_benchmark

    return DaemonCudaDriver
