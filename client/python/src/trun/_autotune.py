"""``@trun.autotune`` and ``@trun.heuristics``: Triton's decorators, with the compiles in the daemon's pool of workers.

Configurations are timed on the device by the daemon. On an emulator they are ranked by the instructions they execute,
which says nothing about a GPU: such a winner is marked, and is kept for that emulator only. Winners outlive the
process: the daemon's cache keeps them.
"""

from __future__ import annotations

import concurrent.futures
import hashlib
import json
import math
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from trun._jit import Bound, JITFunction, Wrapper, for_launch, programs_of, session_of
from trun.errors import ArgumentError, CompileError, KernelFaultError, TrunError, argument_error
from trun.kernel import Grid, Kernel
from trun.session import Session
from trun.tensor import Tensor, TensorAt
from trun.v1 import compile_pb2

_REPETITIONS = 5


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
    ranked_by: str  # "time" or "warp instructions" (an emulator: no statement about a GPU)
    found: bool = False  # in the daemon's cache
    figures: dict[Config, float] = field(default_factory=dict)  # seconds or instructions; inf: it cannot run here
    errors: dict[Config, str] = field(default_factory=dict)


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
    ) -> None:
        self.fn = fn
        self.base = fn
        while not isinstance(self.base, JITFunction):
            self.base = self.base.fn
        self.__name__ = self.base.__name__
        self.configs = list(configs) or [Config({})]
        self.keys = list(key)
        unknown = [name for name in self.keys if name not in self.base.arg_names]
        if unknown:
            raise argument_error(f"autotune: {self.__name__} has no argument {', '.join(map(repr, unknown))}")
        self._reset = list(reset_to_zero or ())
        self._restore = list(restore_value or ())
        self._pre_hook, self._post_hook = pre_hook, post_hook
        pruning = dict(prune_configs_by or {})
        self._perf_model = pruning.get("perf_model")
        self._top_k = pruning.get("top_k", 1.0)
        self._early_prune = pruning.get("early_config_prune")
        self.tunings: dict[tuple[Any, ...], Tuning] = {}
        self.best_config: Config | None = None
        self._lock = threading.Lock()

    def run(self, *args: Any, grid: Grid, session: Session | None = None, **kwargs: Any) -> Any:
        given = dict(zip(self.base.arg_names, args)) | kwargs  # noqa: B905  # the configuration gives the rest
        if len(self.configs) == 1:
            config = self.configs[0]
        else:
            session = session or session_of(list(given.values()))
            key = self._key(given, session)
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
        """Compiles every configuration and launches nothing."""
        return [self.fn.warmup(*args, grid=grid, **{**kwargs, **config.all_kwargs()}) for config in self.configs]

    def _key(self, given: Mapping[str, Any], session: Session) -> tuple[Any, ...]:
        values = [given.get(name) for name in self.keys]
        plain = [v if v is None or isinstance(v, (bool, int, float, str)) else repr(v) for v in values]
        dtypes = [str(_dtype_of(value)) for value in given.values() if _dtype_of(value) is not None]
        return (session.device_name, session.target, *plain, *dtypes)

    def _tune(
        self,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        given: dict[str, Any],
        grid: Grid,
        session: Session,
        key: tuple[Any, ...],
    ) -> Tuning:
        configs = self._pruned(given)
        if len(configs) == 1:
            return Tuning(configs[0], "nothing: it is the only one")
        name = self._name_in_cache(args, kwargs, key, configs)
        found = session._call("CompileService.FindTuning", compile_pb2.FindTuningRequest(session=session.id, key=name))
        if found.value:
            winner = json.loads(found.value)
            return Tuning(configs[winner["config"]], winner["ranked_by"], found=True)
        tuning = self._measure(args, kwargs, given, grid, session, configs)
        value = {"config": configs.index(tuning.config), "ranked_by": tuning.ranked_by}
        session._call(
            "CompileService.StoreTuning",
            compile_pb2.StoreTuningRequest(session=session.id, key=name, value=json.dumps(value)),
        )
        return tuning

    def _name_in_cache(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], key: tuple[Any, ...], configs: list[Config]
    ) -> str:
        source = self.base.bundle({})
        options = {k: v for k, v in kwargs.items() if k not in self.base.arg_names}
        facts = json.dumps([list(key), [str(config) for config in configs], options], sort_keys=True, default=repr)
        return hashlib.sha256(source + b"\0" + facts.encode()).hexdigest()

    def _pruned(self, given: dict[str, Any]) -> list[Config]:
        configs = self.configs
        if self._early_prune is not None:
            configs = list(self._early_prune(configs, given))
            if not configs:
                raise argument_error(f"{self.__name__}: early_config_prune left no configuration")
        if self._perf_model is not None:
            top = self._top_k
            top = max(int(len(self.configs) * top), 1) if isinstance(top, float) and top <= 1.0 else int(top)
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
        ranked_by = "warp instructions" if emulated else "time"
        tuning = Tuning(configs[0], ranked_by)
        saved = {n: given[n].numpy() for n in self._restore if isinstance(given.get(n), Tensor)}
        progress = _Progress(self.__name__, 2 * len(configs))
        ready: list[tuple[Config, Kernel, Bound]] = []
        try:
            with concurrent.futures.ThreadPoolExecutor(min(len(configs), 4 * (os.cpu_count() or 1))) as pool:
                jobs = {c: pool.submit(self._prepare, args, kwargs, c, session) for c in configs}
                for config, job in jobs.items():
                    try:
                        ready.append((config, *job.result()))
                    except CompileError as error:
                        self._failed(tuning, config, error)
                    progress.step("compiled")
            for config, kernel, bound in ready:
                try:
                    tuning.figures[config] = self._time(kernel, bound, grid, config, given, emulated)
                except (ArgumentError, KernelFaultError) as error:
                    if isinstance(error, KernelFaultError) and error.reason != "HUNG_KERNEL":
                        raise  # wrong for one configuration is wrong
                    self._failed(tuning, config, error)
                progress.step("timed")
        finally:
            progress.close()
            for name, values in saved.items():
                given[name].copy_from(values)
            for name in self._reset:
                if isinstance(given.get(name), Tensor):
                    given[name].fill(0)
                elif isinstance(given.get(name), np.ndarray):
                    given[name][...] = 0
        best = min(tuning.figures, key=lambda c: tuning.figures[c])
        if math.isinf(tuning.figures[best]):
            config, text = next(iter(tuning.errors.items()))
            raise CompileError(
                f"none of the {len(configs)} configurations of {self.__name__} works here; of {config}: {text}",
                reason="COMPILE_FAILED",
                code="FAILED_PRECONDITION",
            )
        tuning.config = best
        return tuning

    @staticmethod
    def _failed(tuning: Tuning, config: Config, error: TrunError) -> None:
        tuning.figures[config] = math.inf
        tuning.errors[config] = str(error)

    def _prepare(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], config: Config, session: Session
    ) -> tuple[Kernel, Bound]:
        merged = {**kwargs, **config.all_kwargs()}
        toolchain = merged.pop("toolchain", None)
        deadline = merged.pop("deadline", None)
        inner = self.fn
        while isinstance(inner, Heuristics):
            merged |= inner.choose(args, merged)
            inner = inner.fn
        bound = self.base.bind(args, merged, self.base._collect()[0])
        return self.base.compile(bound, session, toolchain, deadline), bound

    def _time(
        self, kernel: Kernel, bound: Bound, grid: Grid, config: Config, given: dict[str, Any], emulated: bool
    ) -> float:
        if self._pre_hook is not None:
            self._pre_hook(given, reset_only=False)
        if config.pre_hook is not None:
            config.pre_hook({**given, **config.all_kwargs()})
        for name in self._reset:
            if isinstance(given.get(name), Tensor):
                given[name].fill(0)
        programs = programs_of(grid, bound)
        if not all(programs):
            return 0.0
        repetitions = 1 if emulated else _REPETITIONS
        result = kernel[programs].benchmark(
            *for_launch(kernel, bound.runtime), warmup=0 if emulated else 1, repetitions=repetitions
        )
        if self._post_hook is not None:
            self._post_hook(given, exception=None)
        return float(result.warp_instructions) if emulated else result.median


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
    """Chooses the fastest configuration whenever one of the arguments named in `key`, or a dtype, is new.

    options: reset_to_zero, restore_value, pre_hook, post_hook, prune_configs_by, as Triton has them. What says how
    Triton times (warmup, rep, use_cuda_graph, do_bench, cache_results) is taken and has no effect: the daemon times.
    """
    for ignored in ("warmup", "rep", "use_cuda_graph", "do_bench", "cache_results"):
        options.pop(ignored, None)
    return lambda fn: Autotuner(fn, configs, key, **options)


def heuristics(values: Mapping[str, Callable[[dict[str, Any]], Any]]) -> Callable[[Any], Heuristics]:
    """Computes constexpr arguments from the others: ``@trun.heuristics({"EVEN": lambda a: a["n"] % 128 == 0})``."""
    return lambda fn: Heuristics(fn, values)
