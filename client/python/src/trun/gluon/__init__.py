"""Gluon kernels: ``@trun.gluon.jit``, with ``import trun.gluon.language as gl``."""

from __future__ import annotations

from typing import Any

from trun._jit import gluon_jit as jit
from trun._symbols import lookup, names_of, register_submodules
from trun.gluon import language as language

register_submodules(__name__)
__all__ = ["jit", "language"]


def __getattr__(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(name)
    return lookup(__name__, name)


def __dir__() -> list[str]:
    return names_of(__name__)
