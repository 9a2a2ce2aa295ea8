"""Exceptions: one class per reason of the API, each with what happened, where, and what to do next.

All are TrunError. ``reason`` is the name of a trun.v1.ErrorReason without its prefix ("ILLEGAL_ADDRESS"), ``code`` the
name of the gRPC status ("FAILED_PRECONDITION").
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping


@dataclasses.dataclass(frozen=True)
class OtherAccess:
    """The other half of a report that speaks of two instructions: the access that a race is with, the read that
    brought an undefined value."""

    role: str = ""  # "earlier write", "earlier read", ...
    instruction: str = ""
    ptx_line: int = 0
    source_file: str = ""
    source_line: int = 0
    program: tuple[int, ...] = ()
    thread: tuple[int, ...] = ()

    def __str__(self) -> str:
        source = f"{self.source_file}:{self.source_line}, " if self.source_line else ""
        return (
            f"{self.role}: {source}instruction {self.instruction} (PTX line {self.ptx_line}), program {self.program}, "
            f"thread {self.thread}"
        )


@dataclasses.dataclass(frozen=True)
class FaultReport:
    """Where and why a kernel stopped. Fields that are not known are zero or empty."""

    sequence: int = 0
    kernel_name: str = ""
    instruction: str = ""
    ptx_line: int = 0
    source_file: str = ""
    source_line: int = 0
    program: tuple[int, ...] = ()
    thread: tuple[int, ...] = ()
    address: int = 0
    access_bytes: int = 0
    space: str = ""
    is_write: bool = False
    nearest_tensor: str = ""
    nearest_tensor_offset: int = 0
    nearest_tensor_bytes: int = 0
    message: str = ""
    other: OtherAccess | None = None
    trace_end: str = ""  # the last lines of the launch's trace

    def __str__(self) -> str:
        parts = []
        if self.instruction:
            parts.append(f"instruction {self.instruction}" + (f" (PTX line {self.ptx_line})" if self.ptx_line else ""))
        if self.source_file or self.source_line:
            parts.append(f"source {self.source_file}:{self.source_line}")
        if self.program:
            parts.append(f"program {self.program}")
        if self.thread:
            parts.append(f"thread {self.thread}")
        if self.address:
            access = "write of" if self.is_write else "read of"
            parts.append(f"{access} {self.access_bytes} bytes at {self.address:#x} ({self.space or 'memory'})")
        if self.nearest_tensor:
            parts.append(
                f"offset {self.nearest_tensor_offset} of tensor {self.nearest_tensor}"
                f" ({self.nearest_tensor_bytes} bytes)"
            )
        if self.other:
            parts.append(str(self.other))
        return ", ".join(parts)


class TrunError(Exception):
    """Base of all errors of trun."""

    def __init__(
        self,
        message: str,
        *,
        reason: str = "UNSPECIFIED",
        code: str = "UNKNOWN",
        details: Mapping[str, str] | None = None,
        fault: FaultReport | None = None,
        file: str = "",
    ) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason
        self.code = code
        self.details: dict[str, str] = dict(details or {})
        self.fault = fault
        self.file = file or (fault.source_file if fault else "")

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), self.message, self.__dict__))

    def _number(self, name: str) -> int | None:
        value = self.details.get(name, "")
        return int(value) if value.isdigit() and len(value) < 10 else None

    @property
    def line(self) -> int | None:
        """Line of the kernel's file (or of its source, for a fault) that the error speaks of, 1-based."""
        if self.fault and self.fault.source_line:
            return self.fault.source_line
        return self._number("line")

    @property
    def column(self) -> int | None:
        return self._number("column")

    @property
    def next_step(self) -> str:
        """What to do about it; empty for a reason that this version does not know."""
        return NEXT_STEPS.get(self.reason, "")

    def __str__(self) -> str:
        text = self.message
        if self.file and self.line is not None and f"{self.file}:{self.line}" not in text:
            column = f":{self.column}" if self.column is not None else ""
            text = f"{self.file}:{self.line}{column}: {text}"
        if self.fault and str(self.fault):
            text += f"\n  at {self.fault}"
        if self.next_step:
            text += f"\n  next: {self.next_step}"
        return f"[{self.reason}] {text}"


def _rebuild(cls: type[TrunError], message: str, state: dict[str, object]) -> TrunError:
    error = cls(message)
    error.__dict__.update(state)
    return error


class CompileError(TrunError):
    """The kernel could not be compiled."""


class InvalidIrError(CompileError):
    """The file does not parse or verify: ``line`` and ``column`` say where."""


class CompileTimeoutError(CompileError, TimeoutError):
    """The compile passed its deadline."""


class CompileOutOfMemoryError(CompileError):
    """The compile passed its memory limit."""


class UnknownOptionError(CompileError):
    """A compile option that this toolchain does not have; the message lists those it has."""


class UnsupportedLevelError(CompileError):
    """There is no way from this level to that one."""


class UnsupportedInstructionError(CompileError):
    """The device cannot run an instruction of the kernel."""


class UnsupportedTargetError(CompileError):
    """The toolchain or device cannot do this architecture."""


class MetadataError(CompileError):
    """The metadata lacks a key, or contradicts the file: ``details["key"]``."""


class ArgumentError(TrunError, ValueError):
    """Count, kind or type of an argument: ``details["argument"]``."""


class LaunchShapeError(ArgumentError):
    """A grid, block or amount of shared memory that cannot be launched."""


class HandleError(TrunError):
    """A tensor or kernel that was freed, or belongs to another session."""


class TooLargeError(TrunError):
    """A file or message over a limit: ``details["limit"]``."""


class QuotaError(TrunError):
    """The quota of the user or the session: ``details["limit"]``."""


class OutOfMemoryError(TrunError, MemoryError):
    """The device or the host has no memory left."""


class KernelFaultError(TrunError, RuntimeError):
    """A kernel stopped: ``fault`` says where. Tensors of the session are intact."""


class IllegalAddressError(KernelFaultError):
    """The kernel touched memory outside every live tensor."""


class MisalignedAddressError(KernelFaultError):
    """The kernel accessed memory at an address its instruction does not allow."""


class UseAfterFreeError(KernelFaultError):
    """The kernel touched the memory of a freed tensor."""


class UninitializedReadError(KernelFaultError):
    """The kernel read memory that nobody wrote."""


class RaceError(KernelFaultError):
    """Two threads raced for shared memory."""


class DeviceAssertError(KernelFaultError):
    """An assertion of the kernel failed, or it trapped."""


class BarrierDivergenceError(KernelFaultError):
    """Not all threads reached a barrier."""


class HungKernelError(KernelFaultError, TimeoutError):
    """The launch passed its deadline, or no warp could go on."""


class ContextLostError(TrunError):
    """An earlier fault ended the device context; the next launch gets a new one."""


class ExecutorLostError(TrunError):
    """The executor process ended in the middle of the call."""


class WorkerLostError(CompileError):
    """The compile worker ended in the middle of the call."""


class ToolchainNotFoundError(TrunError):
    """No such Triton is installed."""


class ToolchainBrokenError(TrunError):
    """The Triton does not start."""


class SessionExpiredError(TrunError):
    """The session was closed, or its lease ran out."""


class NotPermittedError(TrunError, PermissionError):
    """Not allowed to this user."""


class UnavailableError(TrunError, ConnectionError):
    """The daemon, or a process it needs, cannot be reached or started."""


class DrainingError(UnavailableError):
    """The daemon is ending."""


class CorruptError(TrunError):
    """Stored or transmitted data failed its checksum."""


class ProtocolError(TrunError):
    """The daemon answered something that is not of the protocol."""


class CancelledError(TrunError):
    """The call was cancelled."""


class InternalError(TrunError):
    """A bug in trun: please report it."""


CLASSES: dict[str, type[TrunError]] = {
    "INVALID_IR": InvalidIrError,
    "COMPILE_FAILED": CompileError,
    "COMPILE_TIMEOUT": CompileTimeoutError,
    "COMPILE_OUT_OF_MEMORY": CompileOutOfMemoryError,
    "UNKNOWN_OPTION": UnknownOptionError,
    "UNSUPPORTED_LEVEL": UnsupportedLevelError,
    "UNSUPPORTED_INSTRUCTION": UnsupportedInstructionError,
    "UNSUPPORTED_TARGET": UnsupportedTargetError,
    "METADATA": MetadataError,
    "ARGUMENT": ArgumentError,
    "HANDLE": HandleError,
    "LAUNCH_SHAPE": LaunchShapeError,
    "TOO_LARGE": TooLargeError,
    "QUOTA": QuotaError,
    "OUT_OF_MEMORY": OutOfMemoryError,
    "ILLEGAL_ADDRESS": IllegalAddressError,
    "MISALIGNED_ADDRESS": MisalignedAddressError,
    "USE_AFTER_FREE": UseAfterFreeError,
    "UNINITIALIZED_READ": UninitializedReadError,
    "RACE": RaceError,
    "DEVICE_ASSERT": DeviceAssertError,
    "BARRIER_DIVERGENCE": BarrierDivergenceError,
    "HUNG_KERNEL": HungKernelError,
    "CONTEXT_LOST": ContextLostError,
    "EXECUTOR_LOST": ExecutorLostError,
    "WORKER_LOST": WorkerLostError,
    "TOOLCHAIN_NOT_FOUND": ToolchainNotFoundError,
    "TOOLCHAIN_BROKEN": ToolchainBrokenError,
    "SESSION_EXPIRED": SessionExpiredError,
    "NOT_PERMITTED": NotPermittedError,
    "DRAINING": DrainingError,
    "CACHE_LOCKED": UnavailableError,
    "CORRUPT": CorruptError,
    "PROTOCOL": ProtocolError,
    "UNAVAILABLE": UnavailableError,
    "CANCELLED": CancelledError,
    "INTERNAL": InternalError,
}

_FAULT_STEP = "the tensors are intact: correct the kernel, its arguments or the mask, and launch again"

# One for each reason of CLASSES.
NEXT_STEPS: dict[str, str] = {
    "INVALID_IR": "correct the file at the line named, or name its level with level=...",
    "COMPILE_FAILED": "read the end of the compiler's log above; another toolchain=... may take the file",
    "COMPILE_TIMEOUT": "give a longer deadline=... to load()",
    "COMPILE_OUT_OF_MEMORY": "use smaller blocks, or raise the daemon's limit for compile workers",
    "UNKNOWN_OPTION": "session.describe_toolchain(NAME) lists the options",
    "UNSUPPORTED_LEVEL": "load an earlier level of the same kernel (PTX or above runs on the emulator)",
    "UNSUPPORTED_INSTRUCTION": "open the session on a device that has the instruction: session.devices() lists them",
    "UNSUPPORTED_TARGET": "compile for the session's own device (no target=...), or take a newer toolchain=...",
    "METADATA": "give Triton's JSON of this very file with metadata=...",
    "ARGUMENT": "compare with kernel.signature",
    "HANDLE": "make the tensor or kernel anew in this session",
    "LAUNCH_SHAPE": "a grid starts at 1; smaller blocks or fewer stages (num_stages) take less shared memory",
    "TOO_LARGE": "send less at once: the message names the limit",
    "QUOTA": "free tensors that are no longer used, or close other sessions",
    "OUT_OF_MEMORY": "free tensors that are no longer used",
    "ILLEGAL_ADDRESS": _FAULT_STEP,
    "MISALIGNED_ADDRESS": _FAULT_STEP,
    "USE_AFTER_FREE": _FAULT_STEP,
    "UNINITIALIZED_READ": _FAULT_STEP,
    "RACE": "the tensors are intact: put a barrier or an atomic between the two accesses, and launch again",
    "DEVICE_ASSERT": "the tensors are intact: look at the assertion named, and at what the kernel was given",
    "BARRIER_DIVERGENCE": "the tensors are intact: move the barrier to where every thread of the program comes by",
    "HUNG_KERNEL": "the tensors are intact: give a longer deadline=..., or look for a loop or barrier that never ends",
    "CONTEXT_LOST": "launch again: the next launch gets a new context",
    "EXECUTOR_LOST": "launch again: the tensors are intact and a new executor is started",
    "WORKER_LOST": "try again: the compile pool is whole",
    "TOOLCHAIN_NOT_FOUND": "trun-client toolchains install VERSION; session.toolchains() lists what is there",
    "TOOLCHAIN_BROKEN": "trun-client toolchains remove NAME, then install or adopt it again; or name another",
    "SESSION_EXPIRED": "trun.connect() opens a new session",
    "NOT_PERMITTED": "do it as the daemon's own user; source of kernels may not open files, connect or start processes",
    "UNAVAILABLE": "trun-client doctor says what is wrong; TRUN_ADDRESS and TRUN_TRUND name the daemon",
    "DRAINING": "trun.connect() again in a moment reaches, or starts, the next daemon",
    "CACHE_LOCKED": "use the daemon that holds the cache folder, or give this one another --cache-dir",
    "CORRUPT": "try again: bad cache entries are made anew; send or export a damaged file once more",
    "PROTOCOL": "use client and daemon of one version: trun-client version prints both",
    "CANCELLED": "call again if the result is still wanted",
    "INTERNAL": "please report it, with the daemon's log",
}


def make_error(
    message: str,
    *,
    reason: str,
    code: str,
    details: Mapping[str, str] | None = None,
    fault: FaultReport | None = None,
    file: str = "",
) -> TrunError:
    """An exception of the class that belongs to ``reason``; TrunError itself for a reason that is not known here."""
    return CLASSES.get(reason, TrunError)(message, reason=reason, code=code, details=details, fault=fault, file=file)


def argument_error(message: str, argument: int | None = None) -> ArgumentError:
    """An argument that this side refuses before anything is sent."""
    details = {} if argument is None else {"argument": str(argument)}
    return ArgumentError(message, reason="ARGUMENT", code="INVALID_ARGUMENT", details=details)
