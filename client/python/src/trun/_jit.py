"""Kernels as Python functions: ``@trun.jit``, lowered by the daemon's Triton. Needs neither Triton nor torch here.

@trun.jit
def add(x_ptr, y_ptr, out_ptr, n, BLOCK: tl.constexpr): ...

add[lambda meta: (trun.cdiv(n, meta["BLOCK"]),)](x, y, out, n, BLOCK=1024, num_warps=4)
"""

from __future__ import annotations

import inspect
import json
import numbers
import os
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from trun import _dtypes, _file_arguments, _level_files
from trun._source import FORMAT, Collector, encode, flatten, unwrap
from trun._symbols import Symbol, constexpr
from trun.errors import TrunError, argument_error
from trun.kernel import Grid, Kernel, Seconds, programs_of
from trun.tensor import Tensor, TensorAt, TensorDescriptor

if TYPE_CHECKING:
    from trun.session import Session

_SCALARS = (
    {"int1": "i1", "uint1": "i1", "int": "i32", "float": "f32", "bool": "i1"}
    | {f"{sign}int{bits}": f"{sign[:1] or 'i'}{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)}
    | {"float16": "f16", "bfloat16": "bf16", "float32": "f32", "float64": "f64"}
)

_PRINTED = "printed: "  # begins the lines of a kernel's log that its source printed (tl.static_print)
_default_lock = threading.Lock()
_default: tuple[int, Session] | None = None


def default_session() -> Session:
    """The session of launches that name none: opened on the default device when it is first needed."""
    global _default
    with _default_lock:
        if _default is None or _default[0] != os.getpid() or _default[1].closed:
            from trun import connect

            _default = (os.getpid(), connect())
        return _default[1]


def set_default_session(session: Session | None) -> None:
    """Launches that name no session and no tensor of one use this from now on; None: one of their own."""
    global _default
    with _default_lock:
        _default = None if session is None else (os.getpid(), session)


class Wrapper:
    """What stands around a kernel and launches it: an autotuner, heuristics."""

    fn: Any

    def run(self, *args: Any, grid: Grid, **kwargs: Any) -> Any:
        raise NotImplementedError

    def __getitem__(self, grid: Grid) -> Callable[..., Any]:
        return lambda *args, **kwargs: self.run(*args, grid=grid, **kwargs)


@dataclass(frozen=True)
class Parameter:
    name: str
    is_constexpr: bool
    dtype: str  # fixed by the annotation; "" where the argument decides
    specialise: bool
    align: bool


@dataclass
class Bound:
    """The arguments of one launch."""

    values: dict[str, Any]  # by parameter
    arguments: dict[str, Any]  # as the bundle describes them
    runtime: list[Any]  # what the compiled kernel takes, in order
    options: dict[str, Any]


def _annotated_dtype(annotation: Any) -> str:
    if isinstance(annotation, Symbol):
        annotation = annotation.path
    name = (
        str(annotation).strip("'\"").rsplit(".", 1)[-1]
        if isinstance(annotation, str)
        else getattr(annotation, "__name__", "")
    )
    return _SCALARS.get(name, "")


def _is_constexpr(annotation: Any) -> bool:
    if isinstance(annotation, str):
        return "constexpr" in annotation
    return annotation is constexpr or getattr(annotation, "__name__", "") == "constexpr"


class JITFunction(Wrapper):
    """A kernel's source. ``kernel[grid](...)`` compiles what is not compiled yet, and launches. Thread-safe."""

    def __init__(self, fn: Callable[..., Any], kind: str = "jit", **options: Any) -> None:
        unspecialised = options.pop("do_not_specialize", None) or ()
        unaligned = options.pop("do_not_specialize_on_alignment", None) or ()
        self.noinline = bool(options.pop("noinline", False))
        self.debug = options.pop("debug", None)
        for ignored in ("version", "repr", "launch_metadata"):
            options.pop(ignored, None)
        if options:
            raise TypeError(f"jit() takes no argument {', '.join(map(repr, options))}")
        self.fn = fn
        self.kind = kind
        self.__name__ = fn.__name__
        self.__qualname__ = fn.__qualname__
        self.__module__ = fn.__module__
        self.__doc__ = fn.__doc__
        self.__wrapped__ = fn
        if self.noinline:
            fn.__trun_jit_options__ = {"noinline": True}  # type: ignore[attr-defined]
        self.signature = inspect.signature(fn)
        self.params = tuple(
            Parameter(
                parameter.name,
                _is_constexpr(parameter.annotation),
                _annotated_dtype(parameter.annotation),
                i not in unspecialised and parameter.name not in unspecialised,
                i not in unaligned and parameter.name not in unaligned,
            )
            for i, parameter in enumerate(self.signature.parameters.values())
        )
        self.arg_names = [p.name for p in self.params]
        self._lock = threading.Lock()
        self._collected: tuple[Collector, int] | None = None
        self._kernels: dict[tuple[str, str], Kernel] = {}

    def __call__(self, *_: Any, **__: Any) -> Any:
        raise RuntimeError(
            f"{self.__name__} is a kernel: launch it as {self.__name__}[grid](...), or call it in a kernel"
        )

    def __repr__(self) -> str:
        return f"trun.JITFunction({self.__module__}.{self.__qualname__})"

    # Arguments.

    def bind(self, args: tuple[Any, ...], kwargs: dict[str, Any], collector: Collector) -> Bound:
        named = {name: value for name, value in kwargs.items() if name in self.signature.parameters}
        options = {name: value for name, value in kwargs.items() if name not in named}
        try:
            bound = self.signature.bind(*args, **named)
        except TypeError as error:
            raise argument_error(f"{self.__name__}{self.signature}: {error}") from None
        bound.apply_defaults()
        made = Bound(dict(bound.arguments), {}, [], options)
        for parameter in self.params:
            value = bound.arguments[parameter.name]
            made.arguments[parameter.name] = self._describe(parameter, parameter.name, value, made.runtime, collector)
        return made

    def _describe(
        self, parameter: Parameter, name: str, value: Any, runtime: list[Any], collector: Collector
    ) -> dict[str, Any]:
        if isinstance(value, np.ndarray) and value.ndim == 0:
            value = value[()]
        if parameter.is_constexpr or isinstance(value, constexpr):
            plain = value.value if isinstance(value, constexpr) else value
            return {"kind": "constexpr", "value": collector.value(plain)}
        if value is None:
            return {"kind": "constexpr", "value": None}
        if isinstance(value, (tuple, list)):
            items = [self._describe(parameter, f"{name}[{i}]", v, runtime, collector) for i, v in enumerate(value)]
            described: dict[str, Any] = {"kind": "tuple", "items": items}
            if hasattr(value, "_fields"):
                described |= {"fields": list(value._fields), "name": type(value).__name__}
            return described
        if isinstance(value, (bool, np.bool_)):
            runtime.append(bool(value))
            return {"kind": "scalar", "dtype": parameter.dtype or "i1"}
        if isinstance(value, numbers.Integral):
            return self._describe_integer(parameter, int(value), runtime)
        if isinstance(value, numbers.Real) or isinstance(value, np.generic):
            runtime.append(float(value))
            return {"kind": "scalar", "dtype": parameter.dtype or "f32"}
        if isinstance(value, TensorDescriptor):
            runtime.append(value)
            dtype = _dtypes.dtype_name(_dtypes.wire_dtype(value.base.dtype))
            block = [int(n) for n in value.block_shape]
            descriptor: dict[str, Any] = {"kind": "descriptor", "dtype": dtype, "block_shape": block}
            if value.im2col is not None:
                descriptor["input_rank"] = len(value.extents()[0])
            if value.layout is not None:
                descriptor["layout"] = collector.value(value.layout)
            return descriptor
        if isinstance(value, (np.ndarray, Tensor, TensorAt)):
            element = value.tensor.dtype if isinstance(value, TensorAt) else value.dtype
            address = 0  # arrays are staged at the start of an allocation
            if isinstance(value, Tensor):
                address = value.device_address
            elif isinstance(value, TensorAt):
                address = value.tensor.device_address + value.offset
            runtime.append(value)
            pointer: dict[str, Any] = {"kind": "pointer", "dtype": _dtypes.dtype_name(_dtypes.wire_dtype(element))}
            if parameter.specialise and parameter.align and address % 16 == 0:
                pointer["divisible"] = True
            return pointer
        raise argument_error(f"argument '{name}' of {self.__name__}: a {type(value).__name__} cannot be passed")

    @staticmethod
    def _describe_integer(parameter: Parameter, value: int, runtime: list[Any]) -> dict[str, Any]:
        dtype = parameter.dtype
        if not dtype:
            if value == 1 and parameter.specialise:
                return {"kind": "constexpr", "value": 1}
            if -(1 << 31) <= value < 1 << 31:
                dtype = "i32"
            elif -(1 << 63) <= value < 1 << 63:
                dtype = "i64"
            else:
                dtype = "u64"
        runtime.append(float(value) if dtype[0] in "fb" else value)
        described: dict[str, Any] = {"kind": "scalar", "dtype": dtype}
        if value % 16 == 0 and parameter.specialise and parameter.align and dtype[0] in "iu" and dtype != "i1":
            described["divisible"] = True
        return described

    # Compiling.

    def bundle(self, arguments: Mapping[str, Any]) -> bytes:
        """What is sent: the source of this kernel and of all it depends on, and the arguments' specialisation."""
        collector, entry = self._collect()
        return encode({"format": FORMAT, "entry": entry, "code": collector.code, "arguments": dict(arguments)})

    def _collect(self) -> tuple[Collector, int]:
        with self._lock:
            if self._collected is not None:
                changed = self._collected[0].changed()
                if changed is not None:
                    self._collected = None
                    self._kernels.clear()
            if self._collected is None:
                collector = Collector()
                self._collected = (collector, collector.kernel(self.fn, self.kind))
            return self._collected

    def compile(
        self,
        bound: Bound,
        session: Session,
        toolchain: str | None = None,
        deadline: Seconds | None = None,
        progress: Callable[[str], None] | None = None,
    ) -> Kernel:
        """The kernel for these arguments, compiled at most once in this process."""
        options = dict(bound.options)
        if self.debug is not None:
            options.setdefault("debug", self.debug)
        self._collect()  # forgets kernels whose globals have changed
        facts = json.dumps([bound.arguments, options, toolchain], sort_keys=True, default=repr)
        key = (session.id, facts)
        kernel = self._kernels.get(key)
        if kernel is None:
            level = "gluon" if self.kind == "gluon" else "python"
            try:
                kernel = session.load(
                    self.bundle(bound.arguments),
                    level=level,
                    options=options,
                    toolchain=toolchain,
                    deadline=deadline,
                    progress=progress,
                )
            except TrunError as error:
                error.file = error.file or error.details.get("file", "")
                raise
            self._kernels[key] = kernel
            for line in kernel.log.splitlines():
                if line.startswith(_PRINTED):
                    print(line.removeprefix(_PRINTED))
        return kernel

    def warmup(self, *args: Any, grid: Grid | None = None, session: Session | None = None, **kwargs: Any) -> Kernel:
        """Compiles for these arguments and launches nothing."""
        toolchain = kwargs.pop("toolchain", None)
        collector, _ = self._collect()
        bound = self.bind(args, kwargs, collector)
        return self.compile(bound, session or session_of(bound.runtime), toolchain)

    def run(
        self,
        *args: Any,
        grid: Grid,
        session: Session | None = None,
        toolchain: str | None = None,
        deadline: Seconds | None = None,
        **kwargs: Any,
    ) -> Kernel:
        """Compiles where necessary, launches and waits; NumPy arrays are written back. Returns the compiled kernel.

        session: None: that of the tensors among the arguments, else default_session(). toolchain: "3.9.0"; None: the
        newest. deadline: of the launch, in seconds. ttir_dir=, ttgir_src=, ... take a file in place of this source:
        trun.get_file_dir. What else is no parameter of the kernel is an option of the compile: num_warps=8.
        """
        collector, _ = self._collect()
        files = _level_files.take(kwargs)
        bound = self.bind(args, kwargs, collector)
        session = session or session_of(bound.runtime)
        if files is not None:
            kernel = files.load(self.__name__, session, bound.options, toolchain)
            bound.runtime = _file_arguments.arguments_for(kernel, self.params, bound)
        else:
            kernel = self.compile(bound, session, toolchain)
        programs = grid_for(grid, bound)
        if all(programs):  # Triton, too, launches nothing where a grid has a zero
            result = kernel[programs](*for_launch(kernel, bound.runtime), deadline=deadline)
            kernel.last_result = result
            if result.printed:
                sys.stdout.write(result.printed)
        return kernel


def for_launch(kernel: Kernel, runtime: Sequence[Any]) -> list[Any]:
    """The values in the order of the compiled kernel's parameters. Where a Triton made plain loads of a tensor
    descriptor, its fields are parameters of their own: address, shape, strides, flags, shape, strides."""
    signature = kernel.signature.arguments
    values: list[Any] = []
    for value in flatten(list(runtime)):
        at = len(values)
        if not isinstance(value, TensorDescriptor) or at >= len(signature) or signature[at].kind != "pointer":
            values.append(value)
            continue
        shape, strides = value.extents()
        values += [value.base, *shape, *strides]
        flags = [value.padding_nan, value.round_f32_to_tf32]
        while flags and len(values) < len(signature) and signature[len(values)].dtype == "i1":
            values.append(flags.pop(0))
        values += [*shape, *strides]
    return values


def grid_for(grid: Grid, bound: Bound) -> tuple[int, ...]:
    return programs_of(grid({**bound.options, **bound.values}) if callable(grid) else grid)


def session_of(values: Sequence[Any]) -> Session:
    for value in flatten(list(values)):
        if isinstance(value, TensorDescriptor):
            value = value.base
        if isinstance(value, TensorAt):
            value = value.tensor
        if isinstance(value, Tensor):
            return value._session
    return default_session()


def jit(fn: Any = None, **options: Any) -> Any:
    """Makes a kernel of a function: Triton's decorator, also of a function that is one of a real Triton already.

    Options: do_not_specialize, do_not_specialize_on_alignment, noinline, debug.
    """
    if fn is None:
        return lambda function: jit(function, **options)
    if isinstance(fn, Wrapper):
        return fn
    known = unwrap(fn)
    if known is not None:
        for name in ("do_not_specialize", "do_not_specialize_on_alignment", "noinline", "debug"):
            options.setdefault(name, getattr(fn, name, None))
        return JITFunction(known[0], known[1], **options)
    return JITFunction(fn, **options)


def gluon_jit(fn: Any = None, **options: Any) -> Any:
    """Makes a Gluon kernel of a function."""
    if fn is None:
        return lambda function: gluon_jit(function, **options)
    return JITFunction(fn, "gluon", **options)


def constexpr_function(fn: Callable[..., Any]) -> Callable[..., Any]:
    """A Python function that kernels call while they are compiled; here it stays what it is."""
    return fn
