"""What the two examples share: one kernel by two versions of Triton, and each one's machine code on the device."""

from __future__ import annotations

import importlib
import pathlib
import sys
from typing import Any

import numpy as np
import trun
import trun.language

STUDIES = pathlib.Path(__file__).resolve().parents[2] / "docs" / "case_studies"


def kernel_of(name: str) -> Any:
    """The kernel of a case study: written against Triton, imported with trun in its place."""
    sys.modules.setdefault("triton", trun)
    sys.modules.setdefault("triton.language", trun.language)
    sys.path.insert(0, str(STUDIES))
    return getattr(importlib.import_module(name), name)


def compiled(
    kernel: Any, session: trun.Session, arguments: list[Any], toolchain: str, target: str, **options: Any
) -> Any:
    """The kernel from source to machine code, for a target that need not be the session's."""
    bound = kernel.bind(tuple(arguments), options, kernel._collect()[0])
    given = {"level": "python", "options": bound.options, "toolchain": toolchain, "target": target, "to": "cubin"}
    return session.load(kernel.bundle(bound.arguments), **given)


def launch(kernel: Any, made: Any, session: trun.Session, grid: tuple[int, ...], arguments: list[Any]) -> trun.Kernel:
    """The machine code on a GPU, the PTX of the same compile on an emulator."""
    level = "ptx" if session.device.startswith("emulator") else "cubin"
    file = {f"{level}_src": made.asm[level], "metadata_json": made.metadata}
    return kernel[grid](*arguments, **file, session=session, deadline=120)


def check(what: str, got: Any, expected: Any, tolerance: float) -> None:
    worst = float(np.abs(got.astype(np.float32) - expected).max())
    assert worst <= tolerance, f"{what} is off by {worst}"
