"""Every pass of a compile, as the toolchain's own code adds it to a pass manager.

Each Triton's pipelines are Python functions in its compiler.py, which reach libtriton through names of that module.
While a PassTap is entered, those names lead through it: passes that are added are kept in a list, and where the manager
would run them all at once they run one by one, with a look at the module after each. Nothing about any version's
pipeline is written down here.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from types import ModuleType
from typing import Any

from trun_worker.errors import CompileError
from trun_worker.toolchain import compiler_names

# What compiler.py imports from libtriton.
LIBRARY_NAMES = ("ir", "passes", "llvm", "nvidia", "amd")
# Stages whose result is an MLIR module, or begins as one: only these have passes.
PASS_STAGES = ("ttir", "ttgir", "llir")
# Steps of LLVM that change the text of the module; they are shown, but nothing can be resumed after them.
LLVM_STEPS = ("optimize_module", "link_extern_libs")
UNPRINTABLE = "// This Triton cannot print a module after this pass.\n"


class _Listed(Exception):
    """Ends a dry run where it would leave MLIR."""


class _Namespace:
    """A module of libtriton whose add_ functions go through the tap."""

    def __init__(self, real: Any, tap: PassTap) -> None:
        self._real = real
        self._tap = tap

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._real, name)
        if isinstance(value, ModuleType):
            return _Namespace(value, self._tap)
        if name == "pass_manager":
            return lambda context: _Manager(value(context), context, value, self._tap)
        if name.startswith("add_") and callable(value):
            return lambda *arguments, **named: self._tap.add(name[4:], value, arguments, named)
        return value


class _Llvm:
    def __init__(self, real: Any, tap: PassTap) -> None:
        self._real = real
        self._tap = tap

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._real, name)
        if name == "to_module":
            self._tap.leave_mlir()
        if name == "to_module" or name in LLVM_STEPS:
            return lambda *arguments, **named: self._tap.llvm_step(name, value, arguments, named)
        return value


class _Manager:
    """Takes a pass manager's place: keeps what is added to it."""

    def __init__(self, real: Any, context: Any, kind: Any, tap: PassTap) -> None:
        self.real = real
        self.context = context
        self.kind = kind
        self.passes: list[tuple[str, Callable[..., Any], tuple[Any, ...], dict[str, Any]]] = []
        self._tap = tap

    def __getattr__(self, name: str) -> Any:  # enable_debug, and what later versions have
        return getattr(self.real, name)

    def run(self, module: Any, *arguments: Any) -> None:
        self._tap.run(self, module, arguments)


class PassTap:
    """`on_pass(stage, name, changed, text, ns)` after each pass; None: nobody wants to see them.

    `resume_after` is the qualified name of a pass: passes up to it, and it, are not run.
    """

    def __init__(
        self,
        backend: Any,
        version: str,
        on_pass: Callable[[str, str, bool, str, int], None] | None,
        resume_after: str | None = None,
        dry: bool = False,
    ) -> None:
        self.stage = ""
        self.names: list[str] = []  # of all passes that came by, run or not
        self._names = compiler_names(backend)
        self._saved: dict[str, Any] = {}
        self._on_pass = on_pass
        self._waiting = resume_after
        self._dry = dry
        self._seen: dict[str, int] = {}
        self._last = ""
        self._version = tuple(version.split(".")[:2])

    def __enter__(self) -> PassTap:
        for name in LIBRARY_NAMES:
            real = self._names.get(name)
            if isinstance(real, ModuleType):
                self._saved[name] = real
                self._names[name] = _Llvm(real, self) if name == "llvm" else _Namespace(real, self)
        return self

    def __exit__(self, *_: object) -> None:
        self._names.update(self._saved)

    def begin(self, stage: str, module: Any) -> None:
        """A stage is about to be run on `module`."""
        self.stage = stage
        self._seen = {}
        if self._on_pass is None or stage not in PASS_STAGES:
            return
        text = self.text(module)
        if text != self._last:  # of the first stage, and of one that is printed in another form
            self._last = text
            self._on_pass(stage, f"{stage}/input", True, text, 0)

    def add(self, name: str, function: Callable[..., Any], arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
        if arguments and isinstance(arguments[0], _Manager):
            arguments[0].passes.append((name, function, arguments[1:], named))
            return None
        return function(*arguments, **named)

    def run(self, manager: _Manager, module: Any, arguments: tuple[Any, ...]) -> None:
        for name, function, given, named in manager.passes:
            qualified = self._qualified(name)
            self.names.append(qualified)
            if self._dry:
                continue
            if self._waiting is not None:
                if qualified == self._waiting:
                    self._waiting = None
                continue
            one = manager.kind(manager.context)
            one.enable_debug()
            function(one, *given, **named)
            started = time.perf_counter_ns()
            one.run(module, *arguments)
            spent = time.perf_counter_ns() - started
            if self._on_pass is not None:
                self._tell(qualified, spent, self.text(module, qualified))
        manager.passes.clear()

    def leave_mlir(self) -> None:
        if self._dry:
            raise _Listed

    def llvm_step(self, name: str, function: Callable[..., Any], arguments: tuple[Any, ...], named: Any) -> Any:
        started = time.perf_counter_ns()
        result = function(*arguments, **named)
        spent = time.perf_counter_ns() - started
        module = result if name == "to_module" else arguments[0]
        if self._on_pass is not None:
            self._tell(self._qualified("llvm." + name), spent, str(module))
        return result

    def text(self, module: Any, name: str = "") -> str:
        if name == "llir/di_scope" and self._version in (("3", "3"), ("3", "4")):
            # Their printers of debug information end the process here.
            return module.str_nodebug() if hasattr(module, "str_nodebug") else UNPRINTABLE
        return str(module)

    def _qualified(self, name: str) -> str:
        count = self._seen[name] = self._seen.get(name, 0) + 1
        return f"{self.stage}/{name}" if count == 1 else f"{self.stage}/{name}#{count}"

    def _tell(self, name: str, spent: int, text: str) -> None:
        assert self._on_pass is not None
        self._on_pass(self.stage, name, text != self._last, text, spent)
        self._last = text


def list_passes(backend: Any, version: str, make_stages: Callable[[], dict[str, Any]], module: Any) -> list[str]:
    """The qualified names, in order, for these options and this target. `module` holds a kernel that does nothing."""
    names: list[str] = []
    stages = make_stages()
    for stage in PASS_STAGES:
        with PassTap(backend, version, None, dry=True) as tap:
            tap.begin(stage, module)
            try:
                stages[stage](module, {"num_warps": 4})
            except _Listed:
                pass
            names += tap.names
    return names


def find_pass(asked: str, names: list[str]) -> str:
    """The qualified name of a pass that is asked for by it, or by its bare name where only one has that."""
    if asked in names:
        return asked
    bare = [name for name in names if name.split("/", 1)[1] == asked]
    if len(bare) == 1:
        return bare[0]
    why = f"'{asked}' is the name of {len(bare)} passes" if bare else f"there is no pass '{asked}'"
    message = f"{why}; the passes are: {', '.join(names)}"
    raise CompileError("UNKNOWN_OPTION", message, option="resume_after_pass", **{"pass": asked})
