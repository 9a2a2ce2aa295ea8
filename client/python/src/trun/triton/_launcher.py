"""Launches of Triton's compiled kernels by the daemon: what Triton's own C launcher does for CUDA."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from trun._rpc import to_duration
from trun.errors import TrunError, UnavailableError, argument_error
from trun.kernel import Kernel, Signature, checks_of, encode_im2col, seconds_of
from trun.session import Session
from trun.triton._stages import DaemonCompiler, KernelSource
from trun.v1 import launch_pb2

_ANSWER_SLACK_S = 3600.0
_SERVER_LIMIT_S = 600.0
_NOT_SENT = "failed to connect"  # gRPC's words for a call that nobody has received
_FLOATS = ("fp16", "bf16", "fp32", "f32", "fp64", "f64")


def signature_entries(src: Any) -> tuple[list[Any], set[int]]:
    """The types of the arguments that a launch is called with, and which positions are compiled in (up to 3.2)."""
    signature: dict[Any, Any] = dict(src.signature)
    if "constexpr" in signature.values() or not hasattr(src, "fn"):
        return list(signature.values()), set()
    names = src.fn.arg_names

    def index(key: Any) -> int:
        if isinstance(key, tuple):
            return int(key[0])
        return int(names.index(key)) if isinstance(key, str) else int(key)

    fixed = {
        index(key) for key in (getattr(src, "constants", None) or {}) if not isinstance(key, tuple) or len(key) == 1
    }
    return list(signature.values()), {at for at, key in enumerate(signature) if index(key) in fixed}


def flatten(types: Any, values: Any) -> Iterator[tuple[str, Any]]:
    """Pairs of type and value of everything that is passed: tuples opened, constexprs left out."""
    for kind, value in zip(types, values, strict=True):
        if isinstance(kind, (tuple, list)):
            yield from flatten(kind, value)
        elif kind != "constexpr":
            yield kind, value


class LaunchCounter:
    """What the launches of this process executed; a benchmark takes differences."""

    warp_instructions = 0
    device_seconds = 0.0
    launches = 0


class LoadedKernel:
    """A kernel in the session of the moment: loaded anew when the daemon was started anew."""

    def __init__(self, compiler: DaemonCompiler, source: KernelSource) -> None:
        self._compiler = compiler
        self._source = source
        self._kernel = compiler.take(source)

    def within(self, session: Session) -> Kernel:
        if self._kernel._session is not session:
            self._kernel = self._compiler.take(self._source)
        return self._kernel


class Arguments(Protocol):
    """The memory of one launch's pointer arguments."""

    shares_memory: bool  # with the kernel: what it wrote before it failed has been written

    def add(self, value: Any, position: int) -> None: ...
    def copy_in(self) -> None: ...
    def locate(self, address: int, position: int) -> tuple[str, int] | None:
        """Handle and offset; None: no memory that was added or is known anyway."""

    def copy_back(self) -> None: ...
    def release(self) -> None: ...


class Memory(Protocol):
    session: Session

    def stage(self) -> Arguments: ...


class DaemonLauncher:
    """One specialisation of a kernel. ``memory_of`` gives the memory of the session which its launches run in,
    ``forget`` ends a session whose daemon is gone, ``begin`` waits for what goes before a launch in its stream."""

    memory_of: Callable[[], Memory]  # set by the driver
    forget: Callable[[TrunError, Session], bool]
    begin: Callable[[Any], None]

    def __init__(self, src: Any, metadata: Any) -> None:
        self._types, self._fixed = signature_entries(src)

    def __call__(
        self,
        grid_x: int,
        grid_y: int,
        grid_z: int,
        stream: Any,
        function: LoadedKernel,
        kernel_metadata: Any,
        launch_metadata: Any,
        enter_hook: Any,
        exit_hook: Any,
        *arguments: Any,
    ) -> None:
        if enter_hook is not None:
            enter_hook(launch_metadata)
        if grid_x > 0 and grid_y > 0 and grid_z > 0:
            type(self).begin(stream)
            self._launch(function, [int(grid_x), int(grid_y), int(grid_z)], arguments)
        if exit_hook is not None:
            exit_hook(launch_metadata)

    def _launch(self, loaded: LoadedKernel, grid: list[int], arguments: tuple[Any, ...]) -> None:
        for is_again in (False, True):
            memory = type(self).memory_of()
            kernel = loaded.within(memory.session)
            if kernel._session is not memory.session:
                memory = type(self).memory_of()  # the session ended while the kernel was loaded
            staging = memory.stage()
            try:
                result = self._launch_staged(kernel, memory.session, staging, grid, arguments)
                break
            except TrunError as error:
                if not type(self).forget(error, memory.session) or is_again:
                    raise
                if staging.shares_memory and isinstance(error, UnavailableError) and _NOT_SENT not in error.message:
                    raise  # the kernel may have run, in part, on the program's own memory
            finally:
                staging.release()
        LaunchCounter.launches += 1
        LaunchCounter.warp_instructions += result.warp_instructions
        LaunchCounter.device_seconds += result.device_time.seconds + result.device_time.nanos * 1e-9
        if result.printed:
            _write(result.printed)

    def _launch_staged(
        self, kernel: Kernel, session: Session, staging: Arguments, grid: list[int], arguments: tuple[Any, ...]
    ) -> launch_pb2.LaunchResult:
        values = list(flatten(self._types, arguments))
        if self._fixed:
            values = [pair for at, pair in enumerate(values) if at not in self._fixed]
        if any(kind.startswith("tensordesc") for kind, _ in values):
            values = list(_descriptors_as(kernel.signature, values))
        for position, (kind, value) in enumerate(values):
            if kind.startswith("*") and hasattr(value, "data_ptr"):
                staging.add(value, position)
            elif kind.startswith("tensordesc"):
                staging.add(value.base, position)
        staging.copy_in()
        request = launch_pb2.LaunchRequest(
            session=session.id,
            kernel=kernel._handle,
            grid=grid,
            arguments=[_encode(at, kind, value, staging) for at, (kind, value) in enumerate(values)],
            wait=True,
        )
        limit = _limit_s()
        request.deadline.CopyFrom(to_duration(limit))
        if checks := os.environ.get("TRUN_CHECK"):
            request.checks.CopyFrom(checks_of(checks))
        result: launch_pb2.LaunchResult = session._launch(request, limit + _ANSWER_SLACK_S, True).result
        staging.copy_back()
        return result


def _limit_s() -> float:
    """How long a launch may take: a program of Triton cannot say it, its environment can."""
    given = os.environ.get("TRUN_LAUNCH_DEADLINE")
    if not given:
        return _SERVER_LIMIT_S
    try:
        return seconds_of(float(given))
    except ValueError:  # an ArgumentError is one too
        raise argument_error(f"TRUN_LAUNCH_DEADLINE is a number of seconds, not '{given}'") from None


def _descriptors_as(signature: Signature, values: list[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
    """Descriptors as the kernel takes them: whole, or (without TMA) as a pointer and numbers, by its own signature."""
    at = 0
    for kind, value in values:
        if not kind.startswith("tensordesc") or at >= len(signature) or signature[at].kind == "tensor_descriptor":
            yield kind, value
            at += 1
            continue
        parts: list[tuple[str, Any]] = [("*", value.base)]
        parts += [("i64", n) for n in (*value.shape, *value.strides)]
        flags = [getattr(value, "padding", "zero") == "nan", getattr(value, "round_f32_to_tf32", False)]
        while flags and at + len(parts) < len(signature) and signature[at + len(parts)].bytes == 1:
            parts.append(("i1", flags.pop(0)))
        parts += [("i32", n) for n in value.shape]
        parts += [("i64", n) for n in value.strides]
        yield from parts
        at += len(parts)


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _encode(position: int, kind: str, value: Any, staging: Arguments) -> launch_pb2.LaunchArgument:
    wire = launch_pb2.LaunchArgument()
    if kind.startswith("*"):
        _encode_pointer(position, value, staging, wire)
    elif kind.startswith("tensordesc"):
        _encode_descriptor(position, value, staging, wire)
    elif kind in _FLOATS:
        wire.float_value = float(value)
    elif kind[0] in "iu" and kind[1:].isdigit():
        # As C converts: the bits that fit.
        bits = 1 if kind[1:] == "1" else int(kind[1:])
        number = int(value)
        if bits == 1:
            wire.int_value = int(number != 0)
        elif kind[0] == "u":
            wire.uint_value = number & ((1 << bits) - 1)
        else:
            half = 1 << (bits - 1)
            wire.int_value = ((number + half) & ((1 << bits) - 1)) - half
    else:
        raise TrunError(
            f"argument {position} has type {kind}, which cannot be passed to a kernel of the daemon",
            reason="ARGUMENT",
            code="INVALID_ARGUMENT",
        )
    return wire


def _encode_pointer(position: int, value: Any, staging: Arguments, wire: launch_pb2.LaunchArgument) -> None:
    if value is None:
        wire.null_pointer = True
        return
    address = value.data_ptr() if hasattr(value, "data_ptr") else value
    if not isinstance(address, int):
        raise TypeError("Pointer argument must be either uint64 or have data_ptr method")
    if address == 0:
        wire.null_pointer = True
        return
    place = staging.locate(address, position)
    if place is None:
        raise argument_error(
            f"argument {position} is the address {address:#x}, which lies in no tensor that the kernel was given: pass "
            "the tensor itself, or make it with device memory (see docs/unchanged-programs.md)",
            position,
        )
    wire.tensor.tensor, wire.tensor.offset = place


def _encode_descriptor(position: int, value: Any, staging: Arguments, wire: launch_pb2.LaunchArgument) -> None:
    descriptor = wire.tensor_descriptor
    place = staging.locate(value.base.data_ptr(), position)
    if place is None:
        raise argument_error(f"argument {position} is a descriptor of an empty tensor", position)
    descriptor.base.tensor, descriptor.base.offset = place
    descriptor.shape.extend(int(n) for n in value.shape)
    descriptor.strides.extend(int(n) for n in value.strides)
    descriptor.block_shape.extend(int(n) for n in value.block_shape)
    descriptor.padding_nan = getattr(value, "padding", "zero") == "nan"
    descriptor.round_f32_to_tf32 = bool(getattr(value, "round_f32_to_tf32", False))
    if getattr(value, "mode", "tiled") == "im2col":
        corners = value.pixel_box_lower_corner, value.pixel_box_upper_corner
        encode_im2col(descriptor, *corners, value.element_strides)
