"""One Triton, and what differs between its versions."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

from trun_worker.errors import CompileError


class Toolchain:
    """Raises what `import triton` raises."""

    def __init__(self) -> None:
        import triton
        from triton._C.libtriton import ir, llvm
        from triton.backends import backends
        from triton.backends import compiler as backend_compiler

        self.version: str = triton.__version__
        self.root = Path(triton.__file__).resolve().parent
        self._ir = ir
        self._llvm = llvm
        self._backends = backends
        self._GPUTarget = backend_compiler.GPUTarget
        self._language = getattr(backend_compiler, "Language", None)
        self._ready = False
        self._levels: dict[str, list[str]] = {}

    def backend(self, target: dict[str, Any]) -> Any:
        gpu = self._GPUTarget(target["backend"], target["arch"], target["warp_size"])
        found = [b.compiler for b in self._backends.values() if b.compiler.supports_target(gpu)]
        if len(found) != 1:
            raise CompileError("UNSUPPORTED_TARGET", f"Triton {self.version} has no backend '{target['backend']}'")
        try:
            return found[0](gpu)
        except Exception as error:
            raise CompileError("UNSUPPORTED_TARGET", f"Triton {self.version} refuses {gpu}: {error}") from error

    def stages(self, backend: Any, options: Any) -> dict[str, Any]:
        stages: dict[str, Any] = {}
        if len(inspect.signature(backend.add_stages).parameters) >= 3:
            backend.add_stages(stages, options, self._language.TRITON)
        else:
            backend.add_stages(stages, options)
        return stages

    def levels(self, backend: Any) -> list[str]:
        """What its stages make, in their order."""
        name = backend.target.backend
        if name not in self._levels:
            self._levels[name] = list(self.stages(backend, backend.parse_options({})))
        return self._levels[name]

    def prepare(self) -> None:
        """Global state of LLVM that make_llir sets: a compile that starts below it must find the same."""
        if self._ready:
            return
        self._llvm.init_targets()
        from triton._C.libtriton import nvidia

        if hasattr(nvidia, "set_short_ptr"):
            nvidia.set_short_ptr()
        elif self.version.startswith(("3.2.", "3.3.")):
            # Their make_ptx leaves this flag behind in LLVM, where the next make_llir reads it: else a worker's first
            # compile would differ from all later ones.
            nothing = "define void @nothing() { ret void }"
            self._llvm.translate_to_asm(nothing, "nvptx64-nvidia-cuda", "sm_80", "", ["nvptx-short-ptr"], False, False)
        self._ready = True

    def parse(self, path: Path, backend: Any) -> Any:
        context = self._ir.context()
        self._ir.load_dialects(context)
        backend.load_dialects(context)
        module = self._ir.parse_mlir_module(str(path), context)
        module.context = context
        return module


def compiler_names(backend: Any) -> dict[str, Any]:
    """The names of a backend's compiler.py (which up to 3.1 is in no sys.modules): its stages look them up there."""
    return type(backend).add_stages.__globals__
