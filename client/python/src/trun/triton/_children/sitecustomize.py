"""On the module path of a program under `python -m trun.triton`: the Pythons that it starts install trun too.

Costs them nothing until they import triton (or torch, where its cuda devices are the emulator).
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import json
import os
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

OPTIONS = "TRUN_TRITON_INSTALL"


def _run_hidden_sitecustomize() -> None:
    """The environment's own sitecustomize, which this one stands before."""
    here = os.path.dirname(os.path.abspath(__file__))
    paths = [path for path in sys.path if os.path.abspath(path or os.curdir) != here]
    spec = importlib.machinery.PathFinder.find_spec("sitecustomize", paths)
    if spec is not None and spec.loader is not None:
        spec.loader.exec_module(importlib.util.module_from_spec(spec))


class _InstallAfter(importlib.abc.MetaPathFinder):
    """Calls trun.triton.install() once, after the first import of one of the packages."""

    def __init__(self, packages: set[str], options: dict[str, Any]) -> None:
        self._packages = packages
        self._options = options
        self._finding = False

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name not in self._packages or self._finding:
            return None
        self._finding = True
        try:
            spec = importlib.util.find_spec(name)
        finally:
            self._finding = False
        if spec is None or spec.loader is None:
            return spec
        run = spec.loader.exec_module

        def run_then_install(module: ModuleType) -> None:
            run(module)
            self._packages.discard(name)
            torch = sys.modules.get("torch")
            if name != "torch" and getattr(getattr(torch, "__spec__", None), "_initializing", False):
                return  # torch imports triton: its own turn comes
            if self in sys.meta_path:
                sys.meta_path.remove(self)
                import trun.triton

                if not trun.triton.installed():
                    trun.triton.install(**self._options)

        spec.loader.exec_module = run_then_install  # type: ignore[method-assign]
        return spec


_run_hidden_sitecustomize()
if os.environ.get(OPTIONS):
    _options = json.loads(os.environ[OPTIONS])
    sys.meta_path.insert(0, _InstallAfter({"triton", "torch"} if _options.get("cpu_as_cuda") else {"triton"}, _options))
