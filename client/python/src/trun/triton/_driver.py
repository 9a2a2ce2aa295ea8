"""The daemon's emulator as Triton's active driver."""

from __future__ import annotations

import contextlib
import inspect
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from trun.errors import TrunError
from trun.session import Device, Session
from trun.triton._launcher import DaemonLauncher, LaunchCounter, LoadedKernel
from trun.triton._memory import HostMemory
from trun.triton._stages import DaemonCompiler, KernelSource

_REGISTERS = 65536  # of a multiprocessor, on every architecture that is emulated
_MAX_THREADS = 1024


class EmulatorEvent:
    """torch.cuda.Event on the emulator. Launches are synchronous, so that a clock read now is the event's time."""

    def __init__(self, enable_timing: bool = False, blocking: bool = False, interprocess: bool = False) -> None:
        self._time: float | None = None

    def record(self, stream: Any = None) -> None:
        self._time = time.perf_counter()

    def elapsed_time(self, end: EmulatorEvent) -> float:
        if self._time is None or end._time is None:
            raise ValueError("Both events must be recorded before calculating elapsed time.")
        return max((end._time - self._time) * 1e3, 1e-6)

    def synchronize(self) -> None:
        pass

    def wait(self, stream: Any = None) -> None:
        pass

    def query(self) -> bool:
        return True


class EmulatorStream:
    """The only stream: launches are synchronous."""

    cuda_stream = 0
    stream_id = 0

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def synchronize(self) -> None:
        pass

    def wait_stream(self, other: Any) -> None:
        pass

    def wait_event(self, event: Any) -> None:
        pass

    def record_event(self, event: EmulatorEvent | None = None) -> EmulatorEvent:
        event = event or EmulatorEvent()
        event.record()
        return event

    def query(self) -> bool:
        return True

    def __enter__(self) -> EmulatorStream:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def __eq__(self, other: object) -> bool:
        return isinstance(other, EmulatorStream)

    def __hash__(self) -> int:
        return 0


class DeviceInterface:
    """What Triton's benchmarks ask of torch.cuda."""

    Event = EmulatorEvent
    Stream = EmulatorStream

    def __init__(self, arch: int) -> None:
        self._arch = arch

    def synchronize(self, device: Any = None) -> None:
        pass

    def current_device(self) -> int:
        return 0

    def set_device(self, device: Any) -> None:
        pass

    def current_stream(self, device: Any = None) -> EmulatorStream:
        return EmulatorStream()

    default_stream = current_stream

    @contextlib.contextmanager
    def stream(self, stream: Any) -> Iterator[None]:
        yield

    def get_device_capability(self, device: Any = None) -> tuple[int, int]:
        return divmod(self._arch, 10)


class EmptyCache:
    """There is no cache of a device to flush between the runs of a benchmark."""

    def zero_(self) -> EmptyCache:
        return self


class EmulatorUtils:
    """Triton's CudaUtils, as far as it is asked for on the emulator."""

    def __init__(self, compiler: DaemonCompiler, device: Device) -> None:
        from triton.compiler import CompiledKernel

        self._compiler = compiler
        self._device = device
        self._with_threads = "n_max_threads" in inspect.getsource(CompiledKernel._init_handles)

    def load_binary(self, name: str, binary: bytes, shared: int, device: int) -> tuple[Any, ...]:
        kernel = LoadedKernel(self._compiler, KernelSource.from_bytes(binary))
        loaded = (kernel, kernel, 0, 0)  # registers and spills: nothing assembles PTX here
        return (*loaded, _MAX_THREADS) if self._with_threads else loaded

    def unload_module(self, module: Any) -> None:
        """The kernel is released with its last reference."""

    def get_device_properties(self, device: int) -> dict[str, int]:
        return {
            "max_shared_mem": self._device.max_shared_bytes,
            "max_num_regs": _REGISTERS,
            "multiprocessor_count": self._device.multiprocessors,
            "warpSize": 32,
            "sm_clock_rate": 1_000_000,
            "mem_clock_rate": 1_000_000,
            "mem_bus_width": 1024,
        }

    def cuOccupancyMaxActiveClusters(self, *_: Any) -> int:
        return 1

    def set_printf_fifo_size(self, size: int) -> None:
        """Nothing that a kernel prints is dropped."""


def instructions_benchmark(kernel_call: Callable[[], Any], *, quantiles: Sequence[float], **_: Any) -> list[float]:
    """How Triton's autotuner ranks configurations here: by executed warp instructions, a million as one millisecond."""
    before = LaunchCounter.warp_instructions
    kernel_call()
    executed = (LaunchCounter.warp_instructions - before) / 1e6
    return [executed for _ in quantiles]


def launcher_class(
    memory_of: Callable[[], Any], forget: Callable[[TrunError, Session], bool], begin: Callable[[Any], None]
) -> type:
    parts = {"memory_of": staticmethod(memory_of), "forget": staticmethod(forget), "begin": staticmethod(begin)}
    return type("Launcher", (DaemonLauncher,), parts)


def emulator_driver(
    compiler: DaemonCompiler,
    device: Device,
    memory_of: Callable[[], HostMemory],
    forget: Callable[[TrunError, Session], bool],
    cpu_as_cuda: bool,
) -> type:
    """A driver class for the Triton of this process."""
    from triton.backends.compiler import GPUTarget
    from triton.backends.driver import DriverBase

    arch = int(device.target.split(":")[1])
    launcher = launcher_class(memory_of, forget, lambda stream: None)

    class TrunDriver(DriverBase):  # type: ignore[misc]
        def __init__(self) -> None:
            self.utils = EmulatorUtils(compiler, device)
            self.launcher_cls = launcher
            self.interface = DeviceInterface(arch)

        @classmethod
        def is_active(cls) -> bool:
            return True

        def map_python_to_cpp_type(self, ty: str) -> str:
            from triton.backends.nvidia.driver import ty_to_cpp

            return str(ty_to_cpp(ty))

        def get_current_target(self) -> Any:
            return GPUTarget("cuda", arch, 32)

        def get_current_device(self) -> int:
            return 0

        def set_current_device(self, device: Any) -> None:
            pass

        def get_current_stream(self, device: Any = None) -> int:
            return 0

        def get_device_capability(self, device: Any = None) -> tuple[int, int]:
            return divmod(arch, 10)

        def get_active_torch_device(self) -> Any:
            import torch

            return torch.device("cuda", 0) if cpu_as_cuda else torch.device("cpu")

        def get_device_interface(self) -> Any:
            return sys.modules["torch"].cuda if cpu_as_cuda else self.interface

        def get_benchmarker(self) -> Any:
            return instructions_benchmark

        def get_empty_cache_for_benchmark(self) -> EmptyCache:
            return EmptyCache()

        def clear_cache(self, cache: EmptyCache) -> None:
            cache.zero_()

        def assemble_tensormap_to_arg(self, tensormaps_info: Any, args: Any) -> Any:
            return args

    return TrunDriver
