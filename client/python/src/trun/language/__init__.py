"""Triton's language by name, for kernels written without Triton: ``import trun.language as tl``."""

from __future__ import annotations

from typing import Any

from trun._symbols import lookup, names_of, register_submodules

register_submodules(__name__)


def __getattr__(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(name)
    return lookup(__name__, name)


def __dir__() -> list[str]:
    return names_of(__name__)
