"""The example kernels' arguments, grids and expected results, at odd sizes. Needs NumPy and ml_dtypes only."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from ml_dtypes import bfloat16


class Case:
    """Arguments (arrays and scalars), grid, and what the output arrays must be, within a tolerance."""

    def __init__(self, arguments: list[Any], grid: tuple[int, ...], expected: dict[int, Any], tolerance: float) -> None:
        self.arguments, self.grid, self.expected, self.tolerance = arguments, grid, expected, tolerance


def random(*shape: int, dtype: Any = np.float32, seed: int = 1) -> Any:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def vector_add(n: int) -> Case:
    x, y = random(n), random(n, seed=2)
    return Case([x, y, np.zeros(n, np.float32), n], (math.ceil(n / 1024),), {2: x + y}, 0)


def softmax(rows: int, columns: int) -> Case:
    x = random(rows, columns)
    powers = np.exp(x - x.max(1, keepdims=True))
    return Case(
        [np.zeros_like(x), x, columns, columns, columns], (rows,), {0: powers / powers.sum(1, keepdims=True)}, 1e-6
    )


def layer_norm(rows: int, columns: int) -> Case:
    x, w, b = random(rows, columns), random(columns, seed=2), random(columns, seed=3)
    mean = x.astype(np.float64).mean(1)
    rstd = 1 / np.sqrt(x.astype(np.float64).var(1) + 1e-5)
    y = (x - mean[:, None]) * rstd[:, None] * w + b
    outputs = [np.zeros(rows, np.float32), np.zeros(rows, np.float32)]
    arguments = [x, np.zeros_like(x), w, b, *outputs, columns, columns, 1e-5]
    return Case(arguments, (rows,), {1: y, 4: mean, 5: rstd}, 2e-5)


def reduce_sum(n: int) -> Case:
    x = random(n)
    arguments = [x, np.zeros(1, np.float32), np.zeros(1, np.int32), n]
    return Case(arguments, (math.ceil(n / 1024),), {1: x.astype(np.float64).sum(), 2: (x > 0).sum()}, 1e-3)


def transpose(m: int, n: int) -> Case:
    x = random(m, n)
    return Case([x, np.zeros((n, m), np.float32), m, n], (math.ceil(m / 32), math.ceil(n / 32)), {1: x.T}, 0)


def matmul(m: int, n: int, k: int, dtype: Any, out: Any, block: int, strides: bool, tolerance: float) -> Case:
    a, b = random(m, k, dtype=dtype), random(k, n, dtype=dtype, seed=2)
    expected = a.astype(np.float32) @ b.astype(np.float32)
    dense = [k, 1, n, 1, n, 1] if strides else [k, n, n]
    grid = (math.ceil(m / block), math.ceil(n / block))
    return Case([a, b, np.zeros((m, n), out), m, n, k, *dense], grid, {2: expected}, tolerance)


CASES: dict[str, tuple[str, Callable[[], Case]]] = {
    "vector_add": ("vector_add", lambda: vector_add(3001)),
    "softmax": ("softmax", lambda: softmax(7, 999)),
    "layer_norm": ("layer_norm", lambda: layer_norm(5, 777)),
    "reduce_sum": ("reduce_sum", lambda: reduce_sum(5003)),
    "transpose": ("transpose", lambda: transpose(45, 71)),
    "matmul": ("matmul", lambda: matmul(77, 91, 53, np.float16, np.float32, 64, True, 1e-3)),
    "matmul_fp32": ("matmul", lambda: matmul(45, 35, 27, np.float32, np.float32, 32, True, 1e-5)),
    "matmul_fp16": ("matmul", lambda: matmul(77, 96, 112, np.float16, np.float16, 64, False, 5e-2)),
    "matmul_bf16": ("matmul", lambda: matmul(77, 96, 112, bfloat16, bfloat16, 64, False, 3e-1)),
    "matmul_tf32": ("matmul", lambda: matmul(77, 96, 112, np.float32, np.float32, 64, False, 5e-2)),
}
