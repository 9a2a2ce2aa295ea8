"""``@trun.autotune`` and ``@trun.heuristics``: Triton's decorators, with the compiles in the daemon's pool of workers.

Configurations are timed on the device by the daemon. On an emulator they are ranked by the instructions they execute,
which says nothing about a GPU: such a winner is marked, and is kept for that emulator only. Winners outlive the
process: the daemon's cache keeps them, under a name that holds the source, the configurations, the toolchain's id, the
options, the values of the key and the device.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import hashlib
import json
import math
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from trun._jit import Bound, JITFunction, Wrapper, for_launch, grid_for, session_of
from trun._level_files import LEVELS
from trun.errors import (
    ArgumentError,
    CompileError,
    KernelFaultError,
    LaunchShapeError,
    TrunError,
    WorkerLostError,
    argument_error,
    make_error,
)
from trun.kernel import BenchmarkResult, Grid, Kernel, Seconds
from trun.session import Session
from trun.tensor import Tensor, TensorAt, TensorDescriptor
from trun.v1 import compile_pb2

_WARMUP, _REPETITIONS = 1, 5  # launches, where no milliseconds are asked for
_MOST_REPETITIONS = 10_000
_QUANTILES = (0.5, 0.2, 0.8)  # what Triton asks of a do_bench
_FILES = tuple(f"{level}_{kind}" for level in LEVELS for kind in ("dir", "src"))


class Config:
    """One choice of constexpr arguments and compile options."""

    def __init__(
        self,
        kwargs: Mapping[str, Any],
        num_warps: int = 4,
        num_stages: int = 3,
        num_ctas: int = 1,
        maxnreg: int | None = None,
        pre_hook: Callable[[dict[str, Any]], None] | None = None,
        ir_override: str | None = None,
    ) -> None:
        if ir_override is not None:
            raise argument_error("ir_override is not supported: launch that file with ttir_dir=, ttgir_src=, ...")
        self.kwargs = dict(kwargs)
        self.num_warps = num_warps
        self.num_stages = num_stages
        self.num_ctas = num_ctas
        self.maxnreg = maxnreg
        self.pre_hook = pre_hook

    def all_kwargs(self) -> dict[str, Any]:
        options = {name: getattr(self, name) for name in ("num_warps", "num_ctas", "num_stages", "maxnreg")}
        return {**self.kwargs, **{name: value for name, value in options.items() if value is not None}}

    def __str__(self) -> str:
        return ", ".join(f"{name}: {value}" for name, value in self.all_kwargs().items())

    def __repr__(self) -> str:
        return f"trun.Config({self})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Config) and self.all_kwargs() == other.all_kwargs()

    def __hash__(self) -> int:
        return hash(str(self))


@dataclass
class Tuning:
    """What is known of the configurations for one key."""

    config: Config
    ranked_by: str  # "time", "do_bench", or "warp instructions" (an emulator: no statement about a GPU)
    found: bool = False  # in the daemon's cache
    figures: dict[Config, float] = field(default_factory=dict)  # seconds or instructions; inf: it cannot run here
    errors: dict[Config, str] = field(default_factory=dict)
    is_whole: bool = True  # False: a compile lost its worker, which is not its configuration's fault. Not kept, then


class _Progress:
    """One line on a terminal, gone when it is done; nothing elsewhere, nor for what takes less than a second."""

    def __init__(self, name: str, total: int) -> None:
        self._name, self._total, self._done = name, total, 0
        self._shown = False
        self._start = time.monotonic()
        self._lock = threading.Lock()

    def step(self, what: str) -> None:
        with self._lock:
            self._done += 1
            if not sys.stderr.isatty() or time.monotonic() - self._start < 1:
                return
            filled = 24 * self._done // self._total
            bar = "#" * filled + "." * (24 - filled)
            sys.stderr.write(f"\r\x1b[Kautotuning {self._name} [{bar}] {self._done}/{self._total} {what}")
            sys.stderr.flush()
            self._shown = True

    def close(self) -> None:
        if self._shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


class Autotuner(Wrapper):
    """A kernel and its configurations. ``tunings`` says for each key which one won, and why. Thread-safe."""

    def __init__(
        self,
        fn: Any,
        configs: Sequence[Config],
        key: Sequence[str],
        reset_to_zero: Sequence[str] | None = None,
        restore_value: Sequence[str] | None = None,
        pre_hook: Callable[..., None] | None = None,
        post_hook: Callable[..., None] | None = None,
        prune_configs_by: Mapping[str, Any] | None = None,
        warmup: float | None = None,
        rep: float | None = None,
        use_cuda_graph: bool = False,
        do_bench: Callable[..., Any] | None = None,
        cache_results: bool | None = None,
    ) -> None:
        self.fn = fn
        self.base = fn
        while not isinstance(self.base, JITFunction):
            self.base = self.base.fn
        self.__name__ = self.base.__name__
        self.configs = list(configs) or [Config({})]
        self.keys = list(key)
        self._reset = list(reset_to_zero or ())
        self._restore = list(restore_value or ())
        for what, names in (("key", self.keys), ("reset_to_zero", self._reset), ("restore_value", self._restore)):
            unknown = [name for name in names if name not in self.base.arg_names]
            if unknown:
                listed = ", ".join(map(repr, unknown))
                raise argument_error(f"autotune: {what}: {self.__name__} has no argument {listed}")
        self._pre_hook, self._post_hook = pre_hook, post_hook
        pruning = dict(prune_configs_by or {})
        self._perf_model = pruning.pop("perf_model", None)
        self._top_k = pruning.pop("top_k", 1.0)
        self._early_prune = pruning.pop("early_config_prune", None)
        if pruning:
            raise argument_error(
                f"autotune: prune_configs_by takes perf_model, top_k and early_config_prune, not {', '.join(pruning)}"
            )
        if not isinstance(self._top_k, (int, float)) or (isinstance(self._top_k, float) and self._top_k > 1):
            raise argument_error("autotune: top_k is a number of configurations, or a fraction up to 1.0 of them")
        if use_cuda_graph:
            raise argument_error(
                "autotune: use_cuda_graph is not supported, and not needed: a configuration is timed on the device, "
                "between events, so that what a launch costs the host is not in its time"
            )
        if do_bench is not None and (warmup is not None or rep is not None):
            raise argument_error("autotune: warmup and rep say how the daemon times; with do_bench nothing reads them")
        self._warmup_ms, self._rep_ms = warmup, rep
        self._do_bench = do_bench
        self._is_kept = cache_results is None or bool(cache_results)
        self.tunings: dict[tuple[Any, ...], Tuning] = {}
        self.best_config: Config | None = None
        self._lock = threading.Lock()

    def run(self, *args: Any, grid: Grid, session: Session | None = None, **kwargs: Any) -> Any:
        given = dict(zip(self.base.arg_names, args)) | kwargs  # noqa: B905  # the configuration gives the rest
        self._refuse_conflicts(given)
        if len(self.configs) == 1:
            config = self.configs[0]
        else:
            session = session or session_of(list(given.values()))
            key = self._key(given, session, kwargs)
            with self._lock:  # one tuning at a time: another would disturb its times
                tuning = self.tunings.get(key)
                if tuning is None:
                    tuning = self.tunings[key] = self._tune(args, kwargs, given, grid, session, key)
            config = tuning.config
        self.best_config = config
        if config.pre_hook is not None:
            config.pre_hook({**given, **config.all_kwargs()})
        return self.fn.run(*args, grid=grid, session=session, **{**kwargs, **config.all_kwargs()})

    def warmup(self, *args: Any, grid: Grid | None = None, **kwargs: Any) -> list[Kernel]:
        """Compiles every configuration, in parallel, and launches nothing."""
        given = dict(zip(self.base.arg_names, args)) | kwargs  # noqa: B905  # the configuration gives the rest
        self._refuse_conflicts(given)
        configs = self._pruned(given, kwargs)
        with _compiles(len(configs)) as pool:
            jobs = [
                pool.submit(self.fn.warmup, *args, grid=grid, **{**kwargs, **config.all_kwargs()}) for config in configs
            ]
            return [job.result() for job in jobs]

    def _refuse_conflicts(self, given: Mapping[str, Any]) -> None:
        chosen = {name for config in self.configs for name in config.kwargs}
        both = sorted(chosen & given.keys())
        if both:
            raise argument_error(f"{self.__name__}: {', '.join(both)} is given, and is what the autotuner chooses")
        files = [name for name in _FILES if given.get(name) is not None]
        if files and len(self.configs) > 1:
            raise argument_error(
                f"{self.__name__}: {files[0]}= names one kernel, of which nothing is left to choose: launch it without "
                f"@autotune, or with one configuration"
            )

    def _key(self, given: Mapping[str, Any], session: Session, kwargs: Mapping[str, Any]) -> tuple[Any, ...]:
        values = [given.get(name) for name in self.keys]
        plain = [v if v is None or isinstance(v, (bool, int, float, str)) else repr(v) for v in values]
        dtypes = [str(_dtype_of(value)) for value in given.values() if _dtype_of(value) is not None]
        options = sorted((name, repr(v)) for name, v in kwargs.items() if name not in self.base.arg_names)
        return (session.device_name, session.target, *plain, *dtypes, *options)

    def _tune(
        self,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        given: dict[str, Any],
        grid: Grid,
        session: Session,
        key: tuple[Any, ...],
    ) -> Tuning:
        configs = self._pruned(given, kwargs)
        if len(configs) == 1:
            return Tuning(configs[0], "nothing: it is the only one")
        is_kept = self._is_kept and self._do_bench is None  # what a caller's clock says is the caller's
        name = self._name_in_cache(key, configs, session, kwargs.get("toolchain")) if is_kept else ""
        if name:
            request = compile_pb2.FindTuningRequest(session=session.id, key=name)
            found = session._call("CompileService.FindTuning", request)
            if found.value:
                winner = json.loads(found.value)
                return Tuning(configs[winner["config"]], winner["ranked_by"], found=True)
        tuning = self._measure(args, kwargs, given, grid, session, configs)
        if name and tuning.is_whole:
            value = {"config": configs.index(tuning.config), "ranked_by": tuning.ranked_by}
            session._call(
                "CompileService.StoreTuning",
                compile_pb2.StoreTuningRequest(session=session.id, key=name, value=json.dumps(value)),
            )
        return tuning

    def _name_in_cache(
        self, key: tuple[Any, ...], configs: list[Config], session: Session, toolchain: str | None
    ) -> str:
        """The ids of the toolchain that is named, or of all that could be chosen: another one makes another kernel."""
        ids = [t.id for t in session.toolchains() if not t.unusable_reason and toolchain in (None, t.name)]
        source = self.base.bundle({})
        facts = json.dumps([list(key), [str(config) for config in configs], ids], sort_keys=True, default=repr)
        return hashlib.sha256(source + b"\0" + facts.encode()).hexdigest()

    def _pruned(self, given: dict[str, Any], kwargs: dict[str, Any]) -> list[Config]:
        configs = self.configs
        if self._early_prune is not None:
            named = {name: value for name, value in kwargs.items() if name not in ("toolchain", "deadline")}
            configs = list(self._early_prune(configs, given, **named))
            if not configs:
                raise argument_error(f"{self.__name__}: early_config_prune left no configuration")
        if self._perf_model is not None:
            top = self._top_k if isinstance(self._top_k, int) else max(int(len(configs) * self._top_k), 1)
            if len(configs) > top:
                times = {c: self._perf_model(**{**given, **c.all_kwargs()}) for c in configs}
                configs = sorted(configs, key=lambda c: times[c])[:top]
        return configs

    def _measure(
        self,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        given: dict[str, Any],
        grid: Grid,
        session: Session,
        configs: list[Config],
    ) -> Tuning:
        emulated = session.device.startswith("emulator")
        ranked_by = "do_bench" if self._do_bench is not None else "warp instructions" if emulated else "time"
        tuning = Tuning(configs[0], ranked_by)
        saved = self._saved(given)
        deadline = kwargs.get("deadline")
        progress = _Progress(self.__name__, 2 * len(configs))
        ready: list[tuple[Config, Kernel, Bound]] = []
        failures: dict[Config, TrunError] = {}
        try:
            with _compiles(len(configs)) as pool:
                jobs = {c: pool.submit(self._prepare, args, kwargs, c, session) for c in configs}
                for config, job in jobs.items():
                    try:
                        ready.append((config, *job.result()))
                    except (CompileError, LaunchShapeError) as error:
                        failures[config] = error
                    progress.step("compiled")
            for config, kernel, bound in ready:
                try:
                    tuning.figures[config] = self._time(kernel, bound, grid, config, given, emulated, saved, deadline)
                except (ArgumentError, KernelFaultError) as error:
                    if isinstance(error, KernelFaultError) and error.reason != "HUNG_KERNEL":
                        raise  # wrong for one configuration is wrong
                    failures[config] = error
                progress.step("timed")
        finally:
            progress.close()
            self._restore_from(saved)
            self._zero(given)
        if not tuning.figures:
            config, first = next(iter(failures.items()))
            none = f"none of the {len(configs)} configurations of {self.__name__} works here"
            raise make_error(
                f"{none}; of {config}: {first.message}",
                reason=first.reason,
                code=first.code,
                details=first.details,
                fault=first.fault,
                file=first.file,
            )
        tuning.config = min(tuning.figures, key=lambda c: tuning.figures[c])
        tuning.figures |= dict.fromkeys(failures, math.inf)
        tuning.errors = {config: str(error) for config, error in failures.items()}
        tuning.is_whole = not any(isinstance(error, WorkerLostError) for error in failures.values())
        return tuning

    def _prepare(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], config: Config, session: Session
    ) -> tuple[Kernel, Bound]:
        merged = {**kwargs, **config.all_kwargs()}
        toolchain = merged.pop("toolchain", None)
        merged.pop("deadline", None)  # of the launches
        inner = self.fn
        while isinstance(inner, Heuristics):
            merged |= inner.choose(args, merged)
            inner = inner.fn
        bound = self.base.bind(args, merged, self.base._collect()[0])
        return self.base.compile(bound, session, toolchain), bound

    def _time(
        self,
        kernel: Kernel,
        bound: Bound,
        grid: Grid,
        config: Config,
        given: dict[str, Any],
        emulated: bool,
        saved: list[tuple[Any, Any]],
        deadline: Seconds | None,
    ) -> float:
        programs = grid_for(grid, bound)
        if not all(programs):
            return 0.0
        launch = kernel[programs]
        values = for_launch(kernel, bound.runtime)

        def benchmark(warmup: int, repetitions: int) -> BenchmarkResult:
            return launch.benchmark(*values, warmup=warmup, repetitions=repetitions, deadline=deadline)

        full = {**given, **config.all_kwargs()}

        def with_hooks(call: Callable[[], Any]) -> Any:
            if config.pre_hook is not None:
                config.pre_hook(full)
            if self._pre_hook is not None:
                self._pre_hook(full)
            self._zero(given)
            try:
                result = call()
            except Exception as error:
                if self._post_hook is not None:
                    self._post_hook(full, exception=error)
                raise
            self._restore_from(saved)
            if self._post_hook is not None:
                self._post_hook(full, exception=None)
            return result

        if self._do_bench is not None:
            answer = self._do_bench(
                lambda: with_hooks(lambda: launch(*values, deadline=deadline)), quantiles=_QUANTILES
            )
            return float(answer[0] if isinstance(answer, Sequence) else answer)
        if emulated:  # the same number whenever it is taken
            counted = with_hooks(lambda: benchmark(0, 1))
            return float(counted.warp_instructions)
        warmup, repetitions = _WARMUP, _REPETITIONS
        if self._warmup_ms is not None or self._rep_ms is not None:
            first = with_hooks(lambda: benchmark(1, 1)).median
            warmup = _launches(25 if self._warmup_ms is None else self._warmup_ms, first)
            repetitions = _launches(100 if self._rep_ms is None else self._rep_ms, first)
        hooks = (config.pre_hook, self._pre_hook, self._post_hook, self._reset, saved)
        if not any(hooks):
            return float(benchmark(warmup, repetitions).median)
        # What a hook does is done before each launch.
        times = [with_hooks(lambda: benchmark(0, 1)).median for _ in range(warmup + repetitions)]
        return float(np.median(times[warmup:]))

    def _zero(self, given: Mapping[str, Any]) -> None:
        for name in self._reset:
            value = given.get(name)
            tensor = _tensor_of(value)
            if tensor is not None:
                tensor.fill(0)
            elif isinstance(value, np.ndarray):
                value[...] = 0

    def _saved(self, given: Mapping[str, Any]) -> list[tuple[Any, Any]]:
        saved: list[tuple[Any, Any]] = []
        for name in self._restore:
            value = given.get(name)
            tensor = _tensor_of(value)
            if tensor is not None:
                saved.append((tensor, tensor.numpy()))
            elif isinstance(value, np.ndarray):
                saved.append((value, value.copy()))
        return saved

    @staticmethod
    def _restore_from(saved: list[tuple[Any, Any]]) -> None:
        for target, values in saved:
            if isinstance(target, Tensor):
                target.copy_from(values)
            else:
                target[...] = values


def _launches(milliseconds: float, seconds_of_one: float) -> int:
    return min(max(1, int(milliseconds / 1e3 / max(seconds_of_one, 1e-7))), _MOST_REPETITIONS)


@contextlib.contextmanager
def _compiles(count: int) -> Iterator[concurrent.futures.ThreadPoolExecutor]:
    """Threads that wait for compiles. An error or an interrupt ends those that have not begun."""
    pool = concurrent.futures.ThreadPoolExecutor(min(count, 4 * (os.cpu_count() or 1)))
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _tensor_of(value: Any) -> Tensor | None:
    if isinstance(value, TensorDescriptor):
        value = value.base
    if isinstance(value, TensorAt):
        value = value.tensor
    return value if isinstance(value, Tensor) else None


def _dtype_of(value: Any) -> Any:
    if isinstance(value, TensorAt):
        return value.tensor.dtype
    return value.dtype if isinstance(value, (np.ndarray, Tensor)) else None


class Heuristics(Wrapper):
    """A kernel some of whose constexpr arguments are computed from the others."""

    def __init__(self, fn: Any, values: Mapping[str, Callable[[dict[str, Any]], Any]]) -> None:
        self.fn = fn
        self.values = dict(values)
        inner = fn
        while not isinstance(inner, JITFunction):
            inner = inner.fn
        self._names = inner.arg_names
        self.__name__ = inner.__name__

    def choose(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        given = dict(zip(self._names, args)) | dict(kwargs)  # noqa: B905  # the heuristics give the rest
        for name, function in self.values.items():
            given[name] = function(given)
        return {name: given[name] for name in self.values}

    def run(self, *args: Any, grid: Grid, **kwargs: Any) -> Any:
        return self.fn.run(*args, grid=grid, **{**kwargs, **self.choose(args, kwargs)})

    def warmup(self, *args: Any, grid: Grid | None = None, **kwargs: Any) -> Any:
        return self.fn.warmup(*args, grid=grid, **{**kwargs, **self.choose(args, kwargs)})


def autotune(configs: Sequence[Config], key: Sequence[str], **options: Any) -> Callable[[Any], Autotuner]:
    """Chooses the fastest configuration whenever one of the arguments named in `key`, a dtype or an option is new.

    options, as Triton has them: reset_to_zero, restore_value, pre_hook, post_hook (around each launch),
    prune_configs_by (early_config_prune, perf_model, top_k), warmup and rep (milliseconds of launches on a device; an
    emulator counts instructions once), do_bench (the caller's clock: called with a function that launches and waits;
    its choice lasts as long as this object), cache_results=False (neither looks into the daemon's cache nor keeps the
    choice there). use_cuda_graph=True is refused: times are taken on the device, without what a launch costs the host.
    """
    return lambda fn: Autotuner(fn, configs, key, **options)


def heuristics(values: Mapping[str, Callable[[dict[str, Any]], Any]]) -> Callable[[Any], Heuristics]:
    """Computes constexpr arguments from the others: ``@trun.heuristics({"EVEN": lambda a: a["n"] % 128 == 0})``."""
    return lambda fn: Heuristics(fn, values)
