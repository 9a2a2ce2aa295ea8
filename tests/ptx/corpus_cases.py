"""What a case of the corpus is.

A case is a kernel with types, constants and options, and where it is run: buffers, a grid and what NumPy answers.
Imported by lower.py (with Triton, without NumPy) and by emulate.py (the other way round).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

Version = tuple[int, int]
Array = Any  # numpy.ndarray, which lower.py does not have

INTEGERS = ("i8", "u8", "i16", "u16", "i32", "u32", "i64", "u64")
FLOATS = ("fp16", "bf16", "fp32", "fp64")
TOLERANCE = {"fp16": 2e-3, "bf16": 1.6e-2, "fp32": 3e-6, "fp64": 1e-11, "fp8e4nv": 0.13, "fp8e5": 0.26}
N = 256


@dataclass(frozen=True)
class Buffer:
    """`fill`: a word of emulate.fill, for an input; or zero."""

    dtype: str
    shape: tuple[int, ...]
    fill: str = "zero"


@dataclass(frozen=True)
class Expression:
    """One line of an elementwise kernel: Triton's text, NumPy's, the result's type; NumPy "": it has no word for it."""

    triton: str
    numpy: str
    dtype: str
    since: Version = (3, 0)
    tolerance: float | None = None


@dataclass(frozen=True)
class Case:
    """`reference` gives the expected buffers by name from all buffers before the launch."""

    name: str
    kernel: str
    signature: dict[str, str]
    constants: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    module: str = "corpus_kernels"
    source: str = ""
    since: Version = (3, 0)
    until: Version = (99, 0)
    arch_from: int = 75
    arch_to: int = 1000
    aligned: bool = True
    buffers: dict[str, Buffer] = field(default_factory=dict)
    scalars: dict[str, float] = field(default_factory=dict)
    grid: tuple[int, int, int] = (1, 1, 1)
    reference: Callable[[Any, dict[str, Array]], dict[str, Array]] | None = None
    tolerance: float = 0.0
    absolute: float = 0.0
    expressions: tuple[Expression, ...] = ()
    inputs: tuple[tuple[str, str, str], ...] = ()  # of an elementwise kernel: name, dtype, fill
    runs: bool = True

    def suits(self, version: Version, arch: int) -> bool:
        return self.since <= version < self.until and self.arch_from <= arch < self.arch_to

    def single_expressions(self) -> list[Case]:
        if len(self.expressions) < 2:
            return []
        return [elementwise(f"{self.name}_{i}", self.inputs, [e], self) for i, e in enumerate(self.expressions)]


HEADER = """import triton
import triton.language as tl
try:
    from triton.language.extra import libdevice
except ImportError:
    from triton.language.extra.cuda import libdevice


@triton.jit
"""


def elementwise(
    name: str, inputs: tuple[tuple[str, str, str], ...], expressions: list[Expression], like: Case | None = None
) -> Case:
    outputs = [f"o{k}" for k in range(len(expressions))]
    lines = [
        f"def {name}({', '.join([f'p_{n}' for n, _, _ in inputs] + outputs)}):",
        f"    i = tl.program_id(0) * {N} + tl.arange(0, {N})",
    ]
    lines += [f"    {n} = tl.load(p_{n} + i)" for n, _, _ in inputs]
    lines += [f"    tl.store({o} + i, {e.triton})" for o, e in zip(outputs, expressions, strict=True)]
    signature = {f"p_{n}": f"*{t}" for n, t, _ in inputs}
    signature |= {o: f"*{e.dtype}" for o, e in zip(outputs, expressions, strict=True)}
    buffers = {f"p_{n}": Buffer(t, (2 * N,), fill) for n, t, fill in inputs}
    buffers |= {o: Buffer(e.dtype, (2 * N,)) for o, e in zip(outputs, expressions, strict=True)}
    base = like or Case(name, name, signature)
    return replace(
        base,
        name=name,
        kernel=name,
        signature=signature,
        source=HEADER + "\n".join(lines) + "\n",
        buffers=buffers,
        grid=(2, 1, 1),
        expressions=tuple(expressions),
        inputs=inputs,
    )


def limits(case: Case, **changes: Any) -> Case:
    return replace(case, **changes)
