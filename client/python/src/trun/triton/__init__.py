"""Unchanged Triton programs on the daemon: @triton.jit, @triton.autotune and Gluon kernels as they are.

    import trun.triton
    trun.triton.install()          # before the first launch; or: python -m trun.triton script.py

On a machine with a GPU (placement "in-process") the daemon compiles and caches, and our launcher launches in the
program's own context and stream; with placement "daemon" the daemon's executor launches, on the program's memory.
Without a GPU the kernels run on the daemon's emulator, on CPU tensors. See docs/unchanged-programs.md.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import threading
from typing import Any

import trun
from trun.errors import DrainingError, SessionExpiredError, TrunError, UnavailableError
from trun.session import Device, Session
from trun.triton._cuda import native, program_driver
from trun.triton._gpu_memory import GpuMemory
from trun.triton._launcher import LaunchCounter
from trun.triton._memory import HostMemory
from trun.triton._segments import Segments, TorchPool
from trun.triton._stages import (
    EMULATOR_BINARY,
    DaemonCompiler,
    EmulatedAsm,
    ProgramCompileError,
    daemon_backend,
)

__all__ = ["LaunchCounter", "ProgramCompileError", "install", "installed", "launcher", "session", "uninstall"]

PLACEMENTS = ("emulator", "in-process", "daemon")
LAUNCHERS = ("native", "triton")
KNOWN_VERSIONS = ((3, 0), (3, 9))


class _Installed:
    """What install() changed, and the sessions of this process."""

    def __init__(self, address: str | None, placement: str, arch: str | None) -> None:
        self.address = address
        self.placement = placement
        self.arch = arch
        self.cpu_as_cuda: Any = None
        self.compiler: DaemonCompiler | None = None
        self.backend_before: Any = None
        self.launcher = "emulator"
        self.native: Any = None  # of the placement "daemon"
        self.segments: Any = None
        self.pool: TorchPool | None = None
        self._gpu_memory: GpuMemory | None = None
        self._lock = threading.Lock()
        self._pid = 0
        self._session: Session | None = None
        self._memory: HostMemory | None = None
        self._former_memory: HostMemory | None = None
        self._device_name: str | None = None

    def find_device(self) -> Device | None:
        """The emulator of the wanted architecture; None: the daemon only compiles."""
        with trun.connect(self.address) as session:
            session_devices = session.devices()
        devices = [d for d in session_devices if d.device.startswith("emulator") and not d.unusable_reason]
        if self.placement == "daemon":
            self._device_name = _usable_gpu(session_devices)
            return None
        if self.placement != "emulator":
            # A session has an executor; that of an emulator holds no context on the GPU.
            self._device_name = devices[0].device if devices else None
            return None
        wanted = (self.arch or "").removeprefix("sm_").removeprefix("sm")
        for device in devices:
            if not wanted or device.target.split(":")[1] == wanted:
                self._device_name = device.device
                return device
        known = ", ".join(f"sm_{d.target.split(':')[1]}" for d in devices) or "none"
        raise TrunError(
            f"the daemon has no emulator of {self.arch}; it has {known}: start trund with --emulator {self.arch}",
            reason="UNSUPPORTED_TARGET",
            code="FAILED_PRECONDITION",
        )

    def session(self) -> Session:
        with self._lock:
            if self._pid != os.getpid() or self._session is None or self._session.closed:
                if self._pid != os.getpid():
                    self._memory = None
                self._session = trun.connect(self.address, self._device_name, name="unchanged program")
                self._pid = os.getpid()
            return self._session

    def gpu_memory(self) -> GpuMemory:
        session = self.session()
        with self._lock:
            if self._gpu_memory is None or self._gpu_memory.session is not session:
                self._gpu_memory = GpuMemory(session, self.segments, self.native)
            return self._gpu_memory

    def memory(self) -> HostMemory:
        session = self.session()
        with self._lock:
            if self._memory is None:
                self._memory = HostMemory(session, self._former_memory)
            return self._memory

    def forget(self, error: TrunError, session: Session) -> bool:
        """True where the error says that the session is gone with its daemon: the next call opens another."""
        gone = isinstance(error, SessionExpiredError) or (
            isinstance(error, UnavailableError) and not isinstance(error, DrainingError)
        )
        with self._lock:
            if gone and self._session is session:
                self._session = None
                if self._memory is not None:
                    self._former_memory = self._memory
                    self._memory = None
        return gone


def _usable_gpu(devices: list[Device]) -> str:
    wanted = os.environ.get("TRUN_DEVICE") or "cuda:0"
    found = [d for d in devices if d.device == wanted and wanted.startswith("cuda")]
    if found and not found[0].unusable_reason:
        return wanted
    why = found[0].unusable_reason if found else f"it has {', '.join(d.device for d in devices)}"
    raise TrunError(
        f"the daemon has no GPU {wanted} to launch on ({why}): trun-client doctor says what is missing; "
        "placement='in-process' needs none of the daemon's",
        reason="UNSUPPORTED_TARGET",
        code="FAILED_PRECONDITION",
    )


_state: _Installed | None = None


def installed() -> bool:
    return _state is not None


def launcher() -> str:
    """Who launches: "emulator", "native", "triton" and why, or "daemon". REQUIRES: install()."""
    if _state is None:
        raise TrunError("trun.triton.install() was not called", code="FAILED_PRECONDITION")
    return _state.launcher


def session() -> Session:
    """The session that the program's kernels run in. REQUIRES: install()."""
    if _state is None:
        raise TrunError("trun.triton.install() was not called", code="FAILED_PRECONDITION")
    return _state.session()


_COUNT_GPUS = """
import ctypes, sys
cuda, count = ctypes.CDLL(sys.argv[1]), ctypes.c_int()
sys.exit(not (cuda.cuInit(0) == 0 and cuda.cuDeviceGetCount(ctypes.byref(count)) == 0 and count.value > 0))
"""


def _has_gpu() -> bool:
    """Asked in another process: one that has initialised CUDA cannot fork children that use it."""
    command = [sys.executable, "-I", "-S", "-c", _COUNT_GPUS, os.environ.get("TRUN_LIBCUDA") or "libcuda.so.1"]
    return subprocess.run(command, capture_output=True).returncode == 0


def install(
    *,
    placement: str | None = None,
    arch: str | None = None,
    cpu_as_cuda: bool | None = None,
    compile: str | None = None,
    launcher: str | None = None,
    address: str | None = None,
) -> None:
    """Makes the daemon the driver of this process's Triton.

    placement: "in-process" (with a GPU: the default there), "emulator" (the default elsewhere), "daemon" (the daemon's
        executor launches on the GPU, so that a fault costs this process nothing). None: TRUN_PLACEMENT, else by what
        the machine has.
    arch: which emulator, "sm_90". None: TRUN_EMULATOR_ARCH, else the daemon's first.
    cpu_as_cuda: with the emulator, torch's "cuda" devices are the emulator, so that a program that says
        device="cuda" runs unchanged. None: TRUN_CPU_AS_CUDA=1.
    compile: "daemon" (the default) or "local": this process's Triton makes the PTX and the daemon only runs it.
        None: TRUN_COMPILE.
    launcher: in-process, "native" (ours, the default where its module is) or "triton" (Triton's own, which needs a C
        compiler on this machine). None: TRUN_LAUNCHER.
    address: as trun.connect() takes it.
    """
    global _state
    import triton
    from triton.backends import backends
    from triton.runtime.driver import driver as triton_driver

    _check_version(triton.__version__)
    placement = placement or os.environ.get("TRUN_PLACEMENT") or ("in-process" if _has_gpu() else "emulator")
    if placement not in PLACEMENTS:
        raise ValueError(f"placement is one of {', '.join(PLACEMENTS)}, not {placement!r}")
    compile = compile or os.environ.get("TRUN_COMPILE") or "daemon"
    if compile not in ("daemon", "local"):
        raise ValueError(f"compile is 'daemon' or 'local', not {compile!r}")
    if "nvidia" not in backends:
        raise TrunError(
            f"Triton {triton.__version__} has no backend 'nvidia', only {', '.join(backends)}",
            reason="TOOLCHAIN_BROKEN",
            code="FAILED_PRECONDITION",
        )
    if cpu_as_cuda is None:
        cpu_as_cuda = placement == "emulator" and os.environ.get("TRUN_CPU_AS_CUDA", "") not in ("", "0")
    if cpu_as_cuda and placement != "emulator":
        raise ValueError("cpu_as_cuda needs the placement 'emulator'")
    if cpu_as_cuda and importlib.util.find_spec("torch") is None:
        raise TrunError(
            f"cpu_as_cuda makes torch's cuda devices the emulator, and there is no torch in {sys.prefix}",
            reason="UNSUPPORTED_TARGET",
            code="FAILED_PRECONDITION",
        )
    launcher = launcher or os.environ.get("TRUN_LAUNCHER") or ""
    if launcher and launcher not in LAUNCHERS:
        raise ValueError(f"launcher is one of {', '.join(LAUNCHERS)}, not {launcher!r}")
    uninstall()

    state = _Installed(address, placement, arch or os.environ.get("TRUN_EMULATOR_ARCH"))
    device = state.find_device()
    before = backends["nvidia"]
    state.backend_before = before
    emulated = device is not None
    state.compiler = DaemonCompiler(
        state.session, state.forget, last_level="ptx" if emulated else "cubin", local=compile == "local"
    )
    binary = "cubin" if placement == "in-process" else EMULATOR_BINARY  # what the daemon launches is its own affair
    backend = daemon_backend(before.compiler, state.compiler, binary)
    if device is not None:
        from trun.triton._driver import emulator_driver

        driver = emulator_driver(state.compiler, device, state.memory, state.forget, cpu_as_cuda)
        backends["nvidia"] = type(before)(compiler=backend, driver=driver)
        triton_driver.set_active(driver())
        _serve_cubins(state.compiler)
        if cpu_as_cuda:
            from trun.triton._cpu_as_cuda import CudaOnCpu

            state.cpu_as_cuda = CudaOnCpu(state.memory, state.forget, device)
            state.cpu_as_cuda.install()
    elif placement == "daemon":
        _launch_in_the_daemon(state, backend, before)
    else:
        module, why = (None, "asked for") if launcher == "triton" else native()
        if module is None and launcher == "native":
            raise TrunError(
                f"there is no native launcher here ({why}): install trun's wheel for this platform, or build it with "
                "client/python/setup.py build_ext --inplace",
                code="FAILED_PRECONDITION",
            )
        state.launcher = "native" if module is not None else f"triton ({why})"
        ours = program_driver(before.driver, module) if module is not None else before.driver
        backends["nvidia"] = type(before)(compiler=backend, driver=ours)
        _forget_driver(triton_driver)
        if module is not None and importlib.util.find_spec("torch") is None:
            triton_driver.set_active(ours())  # where other backends cannot even be asked whether they are active
    _state = state


def _launch_in_the_daemon(state: _Installed, backend: Any, before: Any) -> None:
    from triton.backends import backends
    from triton.runtime.driver import driver as triton_driver

    from trun.triton._daemon import daemon_driver

    module, why = native()
    if module is None:
        raise TrunError(
            f"placement 'daemon' needs the native module, which is not here ({why}): install trun's wheel for this "
            "platform, or build it with client/python/setup.py build_ext --inplace",
            code="FAILED_PRECONDITION",
        )
    state.native, state.segments = module, Segments(module)
    assert state.compiler is not None
    state.pool = TorchPool(module)
    driver = daemon_driver(before.driver, module, state.compiler, state.gpu_memory, state.forget, state.pool.settle)
    backends["nvidia"] = type(before)(compiler=backend, driver=driver)
    _forget_driver(triton_driver)
    _serve_cubins(state.compiler)
    if importlib.util.find_spec("torch") is None:
        triton_driver.set_active(driver())
    else:
        state.pool.start()
    state.launcher = "daemon" + (f" ({state.pool.reason})" if state.pool.reason else "")


def _check_version(version: str) -> None:
    """What install() stands on differs from version to version; another would fail somewhere in the middle."""
    numbers = version.split(".")[:2]
    known = (
        all(part.isdigit() for part in numbers) and KNOWN_VERSIONS[0] <= tuple(map(int, numbers)) <= KNOWN_VERSIONS[1]
    )
    if not known:
        first, last = (".".join(map(str, pair)) for pair in KNOWN_VERSIONS)
        raise TrunError(
            f"this process has Triton {version}; programs run unchanged with {first} to {last}. Run the program in an "
            "environment with one of these, or give the daemon its kernels through trun.Session",
            reason="UNSUPPORTED_TARGET",
            code="FAILED_PRECONDITION",
        )


def _forget_driver(config: Any) -> None:
    """Triton's driver is made again when it is asked for."""
    if isinstance(getattr(type(config), "active", None), property):
        config._active = config._default = None
    else:  # up to 3.4: a proxy that makes it
        config.default._obj = None
        config.active = config.default


def uninstall() -> None:
    """Undoes install(): kernels compiled before keep what they have."""
    global _state
    if _state is None:
        return
    from triton.backends import backends
    from triton.runtime.driver import driver as triton_driver

    state, _state = _state, None
    if state.cpu_as_cuda is not None:
        state.cpu_as_cuda.uninstall()
    if state.pool is not None:
        state.pool.stop()
    backends["nvidia"] = state.backend_before
    _forget_driver(triton_driver)
    _serve_cubins(None)


_kernel_init: Any = None


def _serve_cubins(compiler: DaemonCompiler | None) -> None:
    """kernel.asm["cubin"] on the emulator: assembled by the daemon when somebody looks."""
    global _kernel_init
    from triton.compiler import CompiledKernel

    if _kernel_init is None:
        _kernel_init = CompiledKernel.__init__
    original = _kernel_init
    if compiler is None:
        CompiledKernel.__init__ = original
        return

    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        if EMULATOR_BINARY in self.asm:
            self.asm = EmulatedAsm(self.asm, compiler)

    CompiledKernel.__init__ = init
