"""Triton's compile stages, done by the daemon.

The program's own Triton makes the first level (TTIR; TTGIR of a Gluon kernel) in this process. What follows is one
request to the daemon, whose cache has it or whose workers make it with the same version of Triton. Where the daemon
neither has that version nor can adopt this environment, or the program changes the pipeline itself, the program's own
Triton compiles and the daemon gets the PTX.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import hashlib
import json
import os
import sys
import threading
from collections.abc import Callable
from typing import Any

from trun.errors import CompileError, LaunchShapeError, TrunError
from trun.kernel import Kernel
from trun.session import Session
from trun.v1 import toolchain_pb2

# What the daemon's metadata does not decide: it is about this process's compile, not the kernel.
_OWN_METADATA = frozenset({"hash", "target", "triton_version", "extern_libs", "backend_name", "ir_override"})
# Options that follow from the target, or that name files of this machine.
_OWN_OPTIONS = frozenset({"arch", "backend_name", "ir_override", "extern_libs"})
_KEPT_KERNELS = 256
_COMPILE_LIMIT_S = 600.0  # Triton itself has none

EMULATOR_BINARY = "trun"
_BINARY_FORMAT = 2  # of KernelSource.to_bytes() and of what stands beside it in Triton's cache


class ProgramCompileError(CompileError, RuntimeError):
    """The daemon could not compile a kernel of the program; a RuntimeError as Triton's pass manager raises one."""


@dataclasses.dataclass(frozen=True)
class KernelSource:
    """What the daemon compiles a kernel from: kept where Triton keeps its binary, in Triton's own cache."""

    level: str
    text: str
    options: dict[str, Any]
    toolchain: str
    metadata: str  # JSON; of a level that needs it
    target: str

    def to_bytes(self) -> bytes:
        return json.dumps(dataclasses.asdict(self), sort_keys=True).encode()

    @staticmethod
    def from_bytes(data: bytes) -> KernelSource:
        return KernelSource(**json.loads(data))


class DaemonCompiler:
    """Compiles for one program. Thread-safe.

    ``session`` gives the session of this process, ``forget`` ends one whose daemon is gone.
    """

    def __init__(
        self,
        session: Callable[[], Session],
        forget: Callable[[TrunError, Session], bool],
        *,
        last_level: str,
        local: bool = False,
    ) -> None:
        import triton

        self.last_level = last_level
        self._version: str = triton.__version__
        self._session = session
        self._forget = forget
        self._asked: Session | None = None  # whose toolchain it is
        self._local = local
        self._lock = threading.Lock()
        self._toolchain: str | None = None
        self._defaults: dict[str, Any] | None = None
        self._kernels: collections.OrderedDict[str, Kernel] = collections.OrderedDict()
        self.why_local = "asked for" if local else ""

    @property
    def session(self) -> Session:
        return self._session()

    def toolchain(self) -> str:
        """The daemon's toolchain of this program's version; empty where it has none (why_local says why)."""
        session = self.session
        with self._lock:
            if self._toolchain is None or self._asked is not session:
                self._toolchain = "" if self._local else self._find_toolchain(session)
                self._defaults = None
                self._asked = session
            return self._toolchain

    def _find_toolchain(self, session: Session) -> str:
        for found in session.toolchains():
            if found.version == self._version and not found.unusable_reason:
                return found.name
        request = toolchain_pb2.AdoptToolchainRequest(python=sys.executable)
        try:
            adopted = session._call("ToolchainService.AdoptToolchain", request, timeout=120).toolchain
        except TrunError as error:
            self.why_local = f"the daemon has no Triton {self._version} and cannot adopt {sys.executable}: {error}"
            return ""
        if adopted.version != self._version or adopted.unusable_reason:
            self.why_local = (
                f"the daemon has no Triton {self._version}; the environment of {sys.executable} has {adopted.version}"
                + (f" ({adopted.unusable_reason})" if adopted.unusable_reason else "")
            )
            return ""
        return str(adopted.name)

    def defaults(self) -> dict[str, Any]:
        """Every option that the daemon's toolchain takes, as it takes effect there."""
        with self._lock:
            if self._defaults is None:
                described = self.session.describe_toolchain(self._toolchain or "")
                self._defaults = {option.name: option.default for option in described}
            return self._defaults

    def compile(self, source: KernelSource, to: str | None = None) -> Kernel:
        """Once more by another daemon where the first is gone: a compile has no other effect."""
        for is_again in (False, True):
            session = self.session
            try:
                return self._compile(session, source, to)
            except TrunError as error:
                if not self._forget(error, session) or is_again:
                    raise
        raise AssertionError

    def _compile(self, session: Session, source: KernelSource, to: str | None) -> Kernel:
        key = self._key(source)
        with self._lock:
            kept = self._kernels.get(key)
        if kept is not None and kept._session is session and to in (None, self.last_level):
            return kept
        toolchain = source.toolchain
        if toolchain and self._asked is not session:
            toolchain = self.toolchain() or toolchain  # another daemon's may have another name
        try:
            kernel = session.load(
                source.text.encode(),
                level=source.level,
                options=source.options,
                toolchain=toolchain or None,
                metadata=source.metadata or None,
                target=source.target,
                to=to or self.last_level,
                deadline=_COMPILE_LIMIT_S,
            )
        except (CompileError, LaunchShapeError) as error:
            raise _program_error(error) from error
        if to in (None, self.last_level):
            with self._lock:
                self._kernels[key] = kernel
                while len(self._kernels) > _KEPT_KERNELS:
                    self._kernels.popitem(last=False)
        return kernel

    def take(self, source: KernelSource) -> Kernel:
        """The kernel to launch, for somebody who keeps it from now on."""
        kernel = self.compile(source)
        with self._lock:
            self._kernels.pop(self._key(source), None)
        return kernel

    @staticmethod
    def _key(source: KernelSource) -> str:
        return hashlib.sha256(source.to_bytes()).hexdigest()


def _program_error(error: CompileError | LaunchShapeError) -> Exception:
    limit, needed = error.details.get("limit", ""), error.details.get("bytes", "")
    if error.details.get("key") == "shared" and limit.isdigit() and needed.isdigit():
        from triton.runtime.errors import OutOfResources

        return OutOfResources(int(needed), int(limit), "shared memory")  # type: ignore[no-any-return]
    with contextlib.suppress(ImportError):
        from triton.runtime.errors import PTXASError

        if error.message.startswith("ptxas"):
            return PTXASError(str(error))  # type: ignore[no-any-return]
    return ProgramCompileError(
        error.message,
        reason=error.reason,
        code=error.code,
        details=error.details,
        file=error.file,
    )


def _is_json(value: Any) -> bool:
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        return False
    return True


class Pipeline:
    """The stages of one compile, as Triton calls them: each with the module of the one before."""

    def __init__(self, compiler: DaemonCompiler, backend: Any, options: Any, stages: dict[str, Any]) -> None:
        self._compiler = compiler
        self._backend = backend
        self._options = options
        self._levels = list(stages)
        self._given: Any = None  # what the last stage returned
        self._kernel: Kernel | None = None
        self._source: KernelSource | None = None

    def replace(self, stages: dict[str, Any], first: str, binary: str) -> None:
        """Replaces the stages from ``first`` on; ``binary`` is the name of the last one."""
        for level in self._levels[self._levels.index(first) :]:
            if level == "cubin" and binary != "cubin":
                del stages[level]
            else:
                stages[level] = self._stage(level)
        if binary == EMULATOR_BINARY:
            stages[binary] = self._pack

    def append_pack(self, stages: dict[str, Any]) -> None:
        """The local stages as they are, and the PTX packed for the daemon."""
        stages.pop("cubin", None)
        stages[EMULATOR_BINARY] = self._pack

    def _stage(self, level: str) -> Callable[[Any, dict[str, Any]], Any]:
        before = self._levels[self._levels.index(level) - 1]

        def run(module: Any, metadata: dict[str, Any]) -> Any:
            if self._kernel is None or module is not self._given:
                self._compile(before, module, metadata)
            assert self._kernel is not None
            self._given = self._kernel.asm[level]
            return self._given

        return run

    def _compile(self, level: str, module: Any, metadata: dict[str, Any]) -> None:
        options = self._changed_options()
        below = level in ("llir", "ptx")
        if below:
            options = {}
        source = KernelSource(
            level,
            module if isinstance(module, str) else str(module),
            options,
            self._compiler.toolchain(),
            json.dumps(metadata, default=vars) if below else "",
            f"sm_{self._backend.target.arch}",
        )
        self._source = source
        self._kernel = self._compiler.compile(source)
        made = self._kernel.metadata
        metadata.update({key: value for key, value in made.items() if key not in _OWN_METADATA})

    def _changed_options(self) -> dict[str, Any]:
        """The options that are not what the daemon's toolchain takes without being told."""
        theirs = self._compiler.defaults()
        ours = self._backend.parse_options({}).__dict__
        changed = {}
        for name, value in self._options.__dict__.items():
            if name in _OWN_OPTIONS or name not in theirs or not _is_json(value):
                continue
            plain = value is None or isinstance(value, (bool, int, float, str))
            # Tuples follow from the target; numbers and flags may come from this process's environment.
            if value != (theirs[name] if plain else ours.get(name)):
                changed[name] = value
        return changed

    def _pack(self, module: Any, metadata: dict[str, Any]) -> bytes:
        if self._source is None or module is not self._given:
            # Made in this process: the PTX, and what Triton knows of it. Its arch is that of the first levels.
            arch = self._backend.target.arch
            known = metadata | ({"arch": f"sm{arch}"} if "arch" in metadata else {})
            self._source = KernelSource("ptx", str(module), {}, "", json.dumps(known, default=vars), f"sm_{arch}")
        return self._source.to_bytes()


def daemon_backend(base: type, compiler: DaemonCompiler, binary: str) -> type:
    """Triton's own CUDA backend, its later stages done by the daemon; ``binary`` is the level its kernels load."""

    class DaemonBackend(base):  # type: ignore[misc]
        def __init__(self, target: Any) -> None:
            super().__init__(target)
            self.binary_ext = binary

        def add_stages(self, stages: dict[str, Any], options: Any, *language: Any) -> None:
            super().add_stages(stages, options, *language)
            pipeline = Pipeline(compiler, self, options, stages)
            libraries = getattr(options, "extern_libs", None) != getattr(self.parse_options({}), "extern_libs", None)
            arch = "".join(filter(str.isdigit, str(getattr(options, "arch", "") or self.target.arch)))
            own = libraries or arch != str(self.target.arch)
            if own or _program_changes_stages() or not compiler.toolchain():
                if binary == EMULATOR_BINARY:
                    pipeline.append_pack(stages)
                return
            pipeline.replace(stages, "ttgir" if "ttir" in stages else "llir", binary)

        def hash(self) -> str:
            # Kernels of the daemon have files of their own in Triton's cache.
            return f"{super().hash()}-trun-{binary}-{_BINARY_FORMAT}"

    DaemonBackend.__name__ = DaemonBackend.__qualname__ = base.__name__
    return DaemonBackend


class EmulatedAsm(dict[str, Any]):
    """A kernel's levels; what the emulator does not need is made when somebody looks: cubin, and sass from it."""

    def __init__(self, levels: dict[str, Any], compiler: DaemonCompiler) -> None:
        super().__init__(levels)
        self._levels = levels
        self._compiler = compiler

    def __missing__(self, level: str) -> Any:
        if level == "cubin":
            source = KernelSource.from_bytes(self[EMULATOR_BINARY])
            self[level] = self._levels[level] = self._compiler.compile(source, to="cubin").asm["cubin"]
        elif level == "sass":
            self._levels["cubin"] = self["cubin"]
            self[level] = self._levels["sass"]
        else:
            raise KeyError(f"Unknown key: '{level}'")
        return self[level]


def _program_changes_stages() -> bool:
    if os.environ.get("USE_IR_LOC"):  # wants a module after each stage
        return True
    with contextlib.suppress(ImportError):
        from triton import knobs

        return getattr(knobs.runtime, "add_stages_inspection_hook", None) is not None
    return False
