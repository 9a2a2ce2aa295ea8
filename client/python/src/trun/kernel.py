"""A compiled kernel: what it takes, what it is made of, and how it is launched."""

from __future__ import annotations

import json
import numbers
import os
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from trun import _dtypes
from trun._html import table
from trun._rpc import to_duration, to_seconds
from trun.errors import KernelFaultError, TrunError, argument_error
from trun.passes import Pass, parse_passes
from trun.tensor import Tensor, TensorAt, TensorDescriptor, raw_memory
from trun.v1 import compile_pb2, kernel_pb2, launch_pb2

if TYPE_CHECKING:
    from trun.session import Session

Grid: TypeAlias = "int | Sequence[int] | Callable[[Mapping[str, Any]], int | Sequence[int]]"
Seconds: TypeAlias = "float | timedelta"

_SERVER_DEADLINE_S = 30.0
_ANSWER_SLACK_S = 600.0  # what is queued before a launch, and the answer
_BINARY_LEVELS = ("cubin", "hsaco")


def level_name(number: int) -> str:
    return str(kernel_pb2.Level.Name(number)).removeprefix("LEVEL_").lower()


LEVELS: dict[str, kernel_pb2.Level] = {level_name(number): number for number in kernel_pb2.Level.values() if number}


def level_number(name: str) -> kernel_pb2.Level:
    if name not in LEVELS:
        raise argument_error(f"'{name}' is not a level; the levels are {', '.join(LEVELS)}")
    return LEVELS[name]


def seconds_of(given: Seconds | None) -> float:
    if given is None:
        return 0.0
    seconds = given.total_seconds() if isinstance(given, timedelta) else float(given)
    if not 0 < seconds < 1e9:
        raise argument_error(f"a deadline of {seconds:g} s cannot be")
    return seconds


def programs_of(grid: Any) -> tuple[int, ...]:
    """A grid as it is sent. ArgumentError: it is not one to three integers."""
    programs: list[Any] = [grid] if isinstance(grid, numbers.Integral) else list(grid) if np.iterable(grid) else []
    if not 1 <= len(programs) <= 3 or not all(isinstance(n, numbers.Integral) for n in programs):
        raise argument_error(f"a grid is one to three integers, not {grid!r}")
    sizes = tuple(int(n) for n in programs)
    if any(not 0 <= n < 1 << 32 for n in sizes):
        raise argument_error(f"a grid of {list(sizes)} programs cannot be launched")
    return sizes


@dataclass(frozen=True)
class Argument:
    """One argument as the kernel's file declares it."""

    name: str  # empty where the file has no names
    kind: str  # "pointer", "scalar" or "tensor_descriptor"
    dtype: str  # of the scalar or the pointee; "?" where the file does not tell
    bytes: int
    divisibility: int = 1
    descriptor_type: str = ""

    def __str__(self) -> str:
        kind = {
            "pointer": f"*{self.dtype}",
            "tensor_descriptor": f"tensordesc<{self.descriptor_type}>",
        }
        divisible = f" (multiple of {self.divisibility})" if self.divisibility > 1 else ""
        return (f"{self.name}: " if self.name else "") + kind.get(self.kind, self.dtype) + divisible


@dataclass(frozen=True)
class Signature:
    """The arguments in order. Scratch memory that Triton adds is not among them."""

    name: str
    arguments: tuple[Argument, ...]

    def __str__(self) -> str:
        return f"{self.name}({', '.join(str(argument) for argument in self.arguments)})"

    def __len__(self) -> int:
        return len(self.arguments)

    def __iter__(self) -> Iterator[Argument]:
        return iter(self.arguments)

    def __getitem__(self, index: int) -> Argument:
        return self.arguments[index]

    def _repr_html_(self) -> str:
        return table(self.name, [(i, argument) for i, argument in enumerate(self.arguments)])


@dataclass(frozen=True)
class ArtifactInfo:
    level: str
    bytes: int
    digest: str  # SHA-256


@dataclass(frozen=True)
class Stage:
    """One stage of the compile."""

    level: str
    seconds: float
    cached: bool
    bytes: int


@dataclass(frozen=True)
class LaunchResult:
    """What a finished launch says. Of one that was only queued (wait=False) only ``sequence`` is known."""

    sequence: int
    device_seconds: float = 0.0
    warp_instructions: int = 0  # of the emulator
    printed: str = ""  # what device_print wrote
    trace: str = ""  # what trace= asked for, at most 1 MiB


@dataclass(frozen=True)
class Trace:
    """What to write down of one thread of a launch: the source lines it comes to, the registers it writes."""

    lines: bool = True
    registers: bool = False
    program: tuple[int, ...] = (0, 0, 0)
    thread: tuple[int, ...] = (0, 0, 0)


CHECKS = {"uninit": "uninitialized", "race": "races", "async": "async"}


def encode_im2col(
    wire: launch_pb2.TensorDescriptor, lower: Sequence[int], upper: Sequence[int], element_strides: Sequence[int] | None
) -> None:
    wire.im2col.lower_corner.extend(int(n) for n in lower)
    wire.im2col.upper_corner.extend(int(n) for n in upper)
    wire.im2col.element_strides.extend(int(n) for n in element_strides or ())


def checks_of(given: str | Sequence[str]) -> launch_pb2.LaunchChecks:
    """Of "uninit,race", or of a sequence of such names."""
    checks = launch_pb2.LaunchChecks()
    names = given.split(",") if isinstance(given, str) else list(given)
    for name in names:
        if name not in CHECKS:
            raise argument_error(f"'{name}' is not a check; the checks are {', '.join(CHECKS)}")
        setattr(checks, CHECKS[name], True)
    return checks


@dataclass(frozen=True)
class BenchmarkResult:
    """Times on the device, in seconds, in order."""

    seconds: tuple[float, ...]
    warp_instructions: int = 0  # of one launch

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def best(self) -> float:
        return min(self.seconds)

    def quantile(self, q: float) -> float:
        return float(np.quantile(self.seconds, q))

    def __str__(self) -> str:
        return (
            f"median {self.median * 1e6:.1f} µs, best {self.best * 1e6:.1f} µs, "
            f"p95 {self.quantile(0.95) * 1e6:.1f} µs of {len(self.seconds)} launches"
        )


def signature_of(info: kernel_pb2.KernelInfo) -> Signature:
    kinds = {
        kernel_pb2.ARGUMENT_KIND_POINTER: "pointer",
        kernel_pb2.ARGUMENT_KIND_TENSOR_DESCRIPTOR: "tensor_descriptor",
    }
    return Signature(
        info.name,
        tuple(
            Argument(
                argument.name,
                kinds.get(argument.kind, "scalar"),
                _dtypes.dtype_name(argument.dtype),
                argument.bytes,
                max(argument.divisibility, 1),
                argument.descriptor_type,
            )
            for argument in info.arguments
        ),
    )


class Asm(Mapping[str, str | bytes]):
    """Every level's artifact by name, fetched when asked for: ``kernel.asm["ptx"]``. Text, but bytes of a cubin."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._fetched: dict[str, str | bytes] = {}

    def __getitem__(self, level: str) -> str | bytes:
        if level not in self._kernel.artifacts:
            raise KeyError(level)
        if level not in self._fetched:
            content = self._kernel._fetch(level)
            self._fetched[level] = content if level in _BINARY_LEVELS else content.decode(errors="replace")
        return self._fetched[level]

    def __iter__(self) -> Iterator[str]:
        return iter(self._kernel.artifacts)

    def __len__(self) -> int:
        return len(self._kernel.artifacts)

    def __repr__(self) -> str:
        return f"trun.Asm({', '.join(self)})"


class Kernel:
    """A kernel of one session: ``kernel[grid](arguments...)`` launches it. Thread-safe."""

    def __init__(
        self,
        session: Session,
        compiled: compile_pb2.CompiledKernel,
        stages: Sequence[Stage],
    ) -> None:
        self._session = session
        self._handle: str = compiled.kernel
        info = compiled.info
        self.name: str = info.name
        self.signature = signature_of(info)
        self.num_warps: int = info.num_warps
        self.num_ctas: int = info.num_ctas
        self.shared_bytes: int = info.shared_bytes
        self.target: str = info.target
        self.triton_version: str = info.triton_version
        self.metadata: dict[str, Any] = json.loads(info.metadata_json or "{}")
        self.artifacts: dict[str, ArtifactInfo] = {
            level_name(artifact.level): ArtifactInfo(level_name(artifact.level), artifact.bytes, artifact.digest)
            for artifact in compiled.artifacts
        }
        self.asm = Asm(self)
        self.toolchain: str = compiled.toolchain
        self.toolchain_reason: str = compiled.toolchain_reason
        self.cached: bool = compiled.cached
        self.cache_key: str = compiled.cache_key
        self.compile_seconds: float = to_seconds(compiled.total_time)
        self.stages: tuple[Stage, ...] = tuple(stages)
        self.log: str = compiled.log
        self.last_result: LaunchResult | None = None  # of the last launch by a @trun.jit function

    def __del__(self) -> None:
        handle = getattr(self, "_handle", "")
        if handle:
            self._session._abandon_kernel(handle)

    def __getitem__(self, grid: Grid) -> Launcher:
        return Launcher(self, grid)

    def _fetch(self, level: str) -> bytes:
        request = compile_pb2.GetArtifactRequest(
            session=self._session.id, kernel=self._handle, level=level_number(level)
        )
        return b"".join(part.data for part in self._session._receive("CompileService.GetArtifact", request))

    def passes(self) -> list[Pass]:
        """Every pass of the compile, in order; the kernel must have been loaded with passes=True."""
        return parse_passes(self._fetch("passes"))

    def __repr__(self) -> str:
        return f"trun.Kernel({self.signature}, {self.target}, num_warps={self.num_warps})"

    def _repr_html_(self) -> str:
        rows: list[tuple[object, ...]] = [
            ("signature", self.signature),
            ("target", self.target),
        ]
        rows += [
            ("warps", self.num_warps),
            ("shared memory", f"{self.shared_bytes:,} bytes"),
        ]
        rows += [
            ("toolchain", self.toolchain or "none needed"),
            ("levels", ", ".join(self.artifacts)),
        ]
        found = "found in the cache" if self.cached else "compiled"
        rows += [("compile", f"{found} in {self.compile_seconds * 1e3:.0f} ms")]
        return table(f"trun.Kernel {self.name}", rows)


@dataclass
class _Call:
    """Arguments made ready for the wire."""

    values: list[Any] = field(default_factory=list)
    wire: list[launch_pb2.LaunchArgument] = field(default_factory=list)
    arrays: list[tuple[int, npt.NDArray[Any]]] = field(default_factory=list)  # argument, what it points to
    staged: list[Tensor] = field(default_factory=list)  # one for each array
    unwritten: set[str] = field(default_factory=set)  # handles of tensors that this program has not written


class Launcher:
    """A kernel and a grid. Calling it launches and waits; NumPy arrays are written back (unless read-only)."""

    def __init__(self, kernel: Kernel, grid: Grid) -> None:
        self._kernel = kernel
        self._grid = grid

    def __call__(
        self,
        *arguments: Any,
        deadline: Seconds | None = None,
        wait: bool = True,
        check: str | Sequence[str] | None = None,
        trace: Trace | None = None,
        **named: Any,
    ) -> LaunchResult:
        """Launches once.

        Arguments: NumPy arrays (contiguous; uploaded, and written back where writable), trun.Tensor, tensor.at(i),
        TensorDescriptor, numbers, None (a null pointer); by position, or by name where the file has names.
        deadline: seconds, the daemon's 30 s where not given. wait=False queues the launch: only device tensors then,
        and session.synchronize() reports its fault.

        On the emulator: check="uninit,race,async" looks for values that nothing wrote (what Session.empty() gave counts
        as unwritten until this program or a launch writes it), accesses that nothing orders, and copies and wgmma that
        nothing waited for, many times slower; without it, TRUN_CHECK in the environment is asked. trace=Trace(...)
        fills in result.trace.
        """
        session = self._kernel._session
        check = check if check is not None else os.environ.get("TRUN_CHECK") or None
        call = self._bind(arguments, named)
        if call.arrays and not wait:
            raise argument_error("wait=False cannot write arrays back: use tensors of the session")
        programs = self._programs(call)
        limit = (seconds_of(deadline) or _SERVER_DEADLINE_S) + _ANSWER_SLACK_S
        with session._staged(call):
            request = self._request(call, programs, deadline, wait)
            if check is not None:
                request.checks.CopyFrom(checks_of(check))
                request.checks.unwritten.extend(sorted(call.unwritten))
            if trace is not None:
                request.trace.CopyFrom(
                    launch_pb2.LaunchTrace(
                        lines=trace.lines, registers=trace.registers, program=trace.program, thread=trace.thread
                    )
                )
            try:
                response = session._launch(request, limit, wait)
            except KernelFaultError as error:
                self._name_argument(error, call)
                raise
            if wait:
                self._write_back(call)
        result = response.result
        return LaunchResult(
            response.sequence,
            to_seconds(result.device_time),
            result.warp_instructions,
            result.printed,
            result.trace,
        )

    def benchmark(
        self,
        *arguments: Any,
        warmup: int = 1,
        repetitions: int = 10,
        deadline: Seconds | None = None,
        **named: Any,
    ) -> BenchmarkResult:
        """Launches again and again, measured inside the executor. Arrays are not written back."""
        session = self._kernel._session
        call = self._bind(arguments, named)
        programs = self._programs(call)
        limit = (seconds_of(deadline) or _SERVER_DEADLINE_S) * (warmup + repetitions) + _ANSWER_SLACK_S
        with session._staged(call):
            launch = self._request(call, programs, deadline, wait=True)
            request = launch_pb2.BenchmarkRequest(launch=launch, warmup=warmup, repetitions=repetitions)
            try:
                response = session._call("LaunchService.Benchmark", request, timeout=limit)
            except KernelFaultError as error:
                self._name_argument(error, call)
                raise
        times = tuple(to_seconds(time) for time in response.device_times)
        return BenchmarkResult(times, response.warp_instructions)

    def _request(
        self, call: _Call, programs: list[int], deadline: Seconds | None, wait: bool
    ) -> launch_pb2.LaunchRequest:
        kernel = self._kernel
        request = launch_pb2.LaunchRequest(
            session=kernel._session.id,
            kernel=kernel._handle,
            grid=programs,
            arguments=call.wire,
            wait=wait,
        )
        if deadline is not None:
            request.deadline.CopyFrom(to_duration(seconds_of(deadline)))
        return request

    def _programs(self, call: _Call) -> list[int]:
        kernel = self._kernel
        grid = self._grid
        if callable(grid):
            meta = dict(kernel.metadata)
            meta |= {a.name: value for a, value in zip(kernel.signature, call.values, strict=True) if a.name}
            grid = grid(meta)
        return list(programs_of(grid))

    def _bind(self, arguments: tuple[Any, ...], named: dict[str, Any]) -> _Call:
        signature = self._kernel.signature
        values: list[Any] = list(arguments)
        if named:
            names = [argument.name for argument in signature]
            for name in named:
                if name not in names:
                    known = ", ".join(n for n in names if n) or "none: its file has no names"
                    raise argument_error(f"{signature.name} has no argument '{name}'; it has {known}")
                if names.index(name) < len(arguments):
                    raise argument_error(f"argument '{name}' is given twice", names.index(name))
            values += [named[name] for name in names[len(arguments) :] if name in named]
            missing = [name for name in names[len(arguments) :] if name not in named]
            if missing:
                raise argument_error(f"{signature.name} lacks {', '.join(repr(name) for name in missing)}")
        if len(values) != len(signature):
            raise argument_error(f"{signature} takes {len(signature)} arguments, not {len(values)}")
        call = _Call(values)
        for position, (declared, value) in enumerate(zip(signature, values, strict=True)):
            call.wire.append(self._encode(position, declared, value, call))
        self._refuse_overlap(call)
        return call

    def _encode(self, position: int, declared: Argument, value: Any, call: _Call) -> launch_pb2.LaunchArgument:
        def wrong(what: str) -> TrunError:
            name = f" '{declared.name}'" if declared.name else ""
            return argument_error(
                f"argument {position}{name} of {self._kernel.name} is {declared}: {what}",
                position,
            )

        session = self._kernel._session
        wire = launch_pb2.LaunchArgument()
        if isinstance(value, np.ndarray) and value.ndim == 0 and declared.kind == "scalar":
            value = value[()]
        if value is None:
            wire.null_pointer = True
        elif isinstance(value, (Tensor, TensorAt)):
            tensor = value if isinstance(value, Tensor) else value.tensor
            if tensor._session is not session:
                raise wrong("the tensor belongs to another session")
            wire.tensor.tensor = tensor.handle
            if not tensor._written:
                call.unwritten.add(tensor.handle)
            wire.tensor.offset = 0 if isinstance(value, Tensor) else value.offset
        elif isinstance(value, TensorDescriptor):
            self._encode_descriptor(value, wire)
            if not value.base._written:
                call.unwritten.add(value.base.handle)
        elif isinstance(value, np.ndarray):
            if declared.kind == "scalar":
                raise wrong("an array is not a number")
            if not (value.flags.c_contiguous or value.flags.f_contiguous):
                raise wrong("the array is not contiguous; pass np.ascontiguousarray(...), or a trun.Tensor")
            dtype = _dtypes.dtype_name(_dtypes.wire_dtype(value.dtype))
            if declared.dtype != "?" and _width_class(dtype) != _width_class(declared.dtype):
                raise wrong(f"the array has elements of {dtype}")
            if value.size == 0:
                wire.null_pointer = True
            else:
                call.arrays.append((position, value))
        elif isinstance(value, (bool, np.bool_)):
            wire.int_value = int(value)
        elif isinstance(value, numbers.Integral):
            number = int(value)
            if declared.kind == "scalar" and declared.dtype[0] in "fb":
                wire.float_value = float(number)
            elif isinstance(value, np.unsignedinteger):
                wire.uint_value = number  # its bits: a kernel's integers have no sign
            elif -(1 << 63) <= number < 1 << 63:
                wire.int_value = number
            elif number < 1 << 64:
                wire.uint_value = number
            else:
                raise wrong(f"{number} has more than 64 bits")
        elif isinstance(value, numbers.Real) or _is_small_float(value):
            wire.float_value = float(value)
        else:
            raise wrong(f"a {type(value).__name__} cannot be passed")
        return wire

    def _encode_descriptor(self, value: TensorDescriptor, wire: launch_pb2.LaunchArgument) -> None:
        shape, strides = value.extents()
        descriptor = wire.tensor_descriptor
        descriptor.base.tensor = value.base.handle
        descriptor.shape.extend(shape)
        descriptor.strides.extend(strides)
        descriptor.block_shape.extend(value.block_shape)
        descriptor.padding_nan = value.padding_nan
        descriptor.round_f32_to_tf32 = value.round_f32_to_tf32
        if value.im2col is not None:
            box = value.im2col
            encode_im2col(descriptor, box.lower_corner, box.upper_corner, box.element_strides)

    def _refuse_overlap(self, call: _Call) -> None:
        for i, (position, array) in enumerate(call.arrays):
            for other_position, other in call.arrays[:i]:
                if array is other or not np.may_share_memory(array, other):
                    continue
                if array.flags.writeable or other.flags.writeable:
                    raise argument_error(
                        f"the arrays of arguments {other_position} and {position} overlap and would be written back "
                        "one over the other: use a trun.Tensor and tensor.at()",
                        position,
                    )

    def _write_back(self, call: _Call) -> None:
        written: set[int] = set()
        for (_, array), tensor in zip(call.arrays, call.staged, strict=True):
            if array.flags.writeable and id(tensor) not in written:
                written.add(id(tensor))
                tensor._read(raw_memory(array))

    def _name_argument(self, error: KernelFaultError, call: _Call) -> None:
        if error.fault is None or not error.fault.nearest_tensor:
            return
        for position, wire in enumerate(call.wire):
            if wire.tensor.tensor == error.fault.nearest_tensor:
                name = self._kernel.signature[position].name
                error.details.setdefault("argument", str(position))
                error.message += f" (argument {position}{f' {name!r}' if name else ''})"
                return


def _is_small_float(value: Any) -> bool:
    """bfloat16 and the float8s of ml_dtypes are not registered as numbers."""
    return isinstance(value, np.generic) and _dtypes.dtype_name(_dtypes.wire_dtype(value.dtype))[0] in "fb"


def _width_class(dtype: str) -> str:
    """Integers are signless in a kernel's file: u32 and i32 are one; so are i1 and i8 in memory."""
    signless = dtype.replace("u", "i") if dtype[0] == "u" else dtype
    return "i8" if signless == "i1" else signless
