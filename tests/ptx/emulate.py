"""Loads and runs compiled cases on the emulator (ptx_runner) and compares with NumPy."""

from __future__ import annotations

import json
import math
import os
import subprocess
import tempfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import corpus_cases
import ml_dtypes
import numpy as np

DTYPES: dict[str, Any] = {
    "i8": np.int8,
    "u8": np.uint8,
    "i16": np.int16,
    "u16": np.uint16,
    "i32": np.int32,
    "u32": np.uint32,
    "i64": np.int64,
    "u64": np.uint64,
    "fp16": np.float16,
    "bf16": ml_dtypes.bfloat16,
    "fp32": np.float32,
    "fp64": np.float64,
    "fp8e4nv": ml_dtypes.float8_e4m3fn,
    "fp8e5": ml_dtypes.float8_e5m2,
    "fp8e4b15": np.uint8,
}
SCALAR = {"i32": "<i4", "i64": "<i8", "fp32": "<f4", "fp64": "<f8"}
Array = np.ndarray[Any, Any]


class Runner:
    """One ptx_runner process."""

    def __init__(self, binary: Path, checks: str = "") -> None:
        environment = os.environ | {"TRUN_TEST_CHECKS": checks} if checks else None
        self.process = subprocess.Popen(
            [str(binary)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"ptx_runner ended with {self.process.wait()} at {request}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def load(self, ptx: Path, arch: int) -> list[str]:
        """What of the module the emulator does not load."""
        answer = self.ask({"op": "load", "arch": arch, "ptx": str(ptx)})
        problems = [f"line {u['line']}: {u['instruction']}: {u['message']}" for u in answer.get("unsupported", [])]
        return problems + ([answer["error"]] if "error" in answer else [])

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def fill(buffer: corpus_cases.Buffer, name: str) -> Array:
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    kind, shape, word = DTYPES[buffer.dtype], buffer.shape, buffer.fill
    integer = np.issubdtype(kind, np.integer)
    if word == "zero":
        return np.zeros(shape, kind)
    if word.startswith("below"):
        return rng.integers(0, int(word.split()[1]), shape).astype(kind)
    if word == "scale":
        return rng.integers(124, 131, shape).astype(kind)
    if integer:
        info = np.iinfo(kind)
        if word == "shift":
            return rng.integers(0, info.bits, shape).astype(kind)
        if word in ("small", "unit"):
            low = -20 if info.min < 0 else 0
            return (
                rng.integers(low, 20, shape).astype(kind)
                if word == "small" or buffer.dtype != "u8"
                else rng.integers(0, 256, shape).astype(kind)
            )
        values = rng.integers(info.min, info.max, shape, dtype=kind, endpoint=True)
        edges = np.array([info.min, info.max, 0, 1, info.max - 1, 2, 7], kind)
        chosen = np.where(rng.random(shape) < 0.2, rng.choice(edges, shape), values)
        if word == "nonzero":
            # The lowest number divided by -1 has no defined answer.
            chosen = np.where(
                (chosen == 0) | ((info.min < 0) & (chosen == kind(-1 if info.min < 0 else 0))), kind(3), chosen
            )
        return chosen.astype(kind)
    if word == "positive":
        return rng.uniform(0.05, 8, shape).astype(kind)
    if word == "unit":
        return rng.uniform(-1, 1, shape).astype(kind)
    if word == "small":
        return rng.integers(-20, 20, shape).astype(kind)
    if word == "castable":
        return rng.uniform(0, 120, shape).astype(kind)
    if word == "moderate":
        return rng.uniform(-6, 6, shape).astype(kind)
    values = rng.normal(0, 3, shape)
    edges = np.array([0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan, 0.5, 2.0])
    return np.where(rng.random(shape) < 0.1, rng.choice(edges, shape), values).astype(kind)


class F:
    """What references need beside NumPy."""

    @staticmethod
    def dtype(name: str) -> Any:
        return DTYPES[name]

    @staticmethod
    def cast(x: Array, name: str) -> Array:
        if x.dtype.kind not in "iu" and np.dtype(DTYPES[name]).kind in "iu":
            return np.trunc(x.astype(np.float64)).astype(DTYPES[name])
        return x.astype(DTYPES[name])

    @staticmethod
    def truncated_division(x: Array, d: Array) -> Array:
        return np.array(
            [abs(int(a)) // abs(int(b)) * (1 if (a < 0) == (b < 0) else -1) for a, b in zip(x, d, strict=True)], object
        ).astype(x.dtype)

    @staticmethod
    def remainder(x: Array, d: Array) -> Array:
        return np.array(
            [abs(int(a)) % abs(int(b)) * (-1 if a < 0 else 1) for a, b in zip(x, d, strict=True)], object
        ).astype(x.dtype)

    @staticmethod
    def shift_left(x: Array, s: Array) -> Array:
        bits = 8 * x.dtype.itemsize
        return np.array([(int(a) << int(b)) & ((1 << bits) - 1) for a, b in zip(x, s, strict=True)], np.uint64).astype(
            x.dtype
        )

    @staticmethod
    def high_product(x: Array, y: Array) -> Array:
        bits = 8 * x.dtype.itemsize
        mask = (1 << bits) - 1
        return np.array([(int(a) & mask) * (int(b) & mask) >> bits for a, b in zip(x, y, strict=True)], f"u{bits // 8}")

    @staticmethod
    def fma(x: Array, y: Array, z: Array) -> Array:
        return x.astype(np.float64) * y.astype(np.float64) + z.astype(np.float64)

    @staticmethod
    def each(function: Callable[[float], float], x: Array) -> Array:
        def one(v: float) -> float:
            return function(v) if math.isfinite(v) else function(math.copysign(30.0, v)) if math.isinf(v) else math.nan

        return np.array([one(float(v)) for v in x.ravel()]).reshape(x.shape)

    @staticmethod
    def erf(x: Array) -> Array:
        return F.each(math.erf, x)

    @staticmethod
    def gamma(x: Array) -> Array:
        return F.each(math.gamma, x)

    @staticmethod
    def lgamma(x: Array) -> Array:
        return F.each(math.lgamma, x)

    @staticmethod
    def ieee_remainder(x: Array, y: Array) -> Array:
        return np.array([math.remainder(float(a), float(b)) for a, b in zip(x, y, strict=True)])

    @staticmethod
    def recurrence(a: Array, b: Array) -> Array:
        out, state = [], 0.0
        for x, y in zip(a, b, strict=True):
            state = state * float(x) + float(y)
            out.append(state)
        return np.array(out)

    @staticmethod
    def any_order(x: Array) -> Array:
        return np.sort(x).view(AnyOrder)

    @staticmethod
    def product(a: Array, b: Array) -> Array:
        if a.dtype.kind in "iu":
            return np.matmul(a.astype(np.int64), b.astype(np.int64))
        return np.matmul(a.astype(np.float64), b.astype(np.float64))

    @staticmethod
    def widen(x: Array, kind: str, axis: int) -> Array:
        if kind != "e2m1":
            return x.astype(np.float64)
        table = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6])
        pairs = np.stack([table[x & 15], table[x >> 4]], axis=axis + 1)
        shape = list(x.shape)
        shape[axis] *= 2
        return pairs.reshape(shape)

    @staticmethod
    def scaled_product(a: Array, sa: Array, ka: str, b: Array, sb: Array, kb: str) -> Array:
        x = F.widen(a, ka, 1) * np.repeat(np.exp2(sa.astype(np.float64) - 127), 32, axis=1)
        y = F.widen(b, kb, 0) * np.repeat(np.exp2(sb.astype(np.float64) - 127), 32, axis=1).T
        return x @ y

    @staticmethod
    def scatter(op: Any, out: Array, x: Array, cells: int) -> Array:
        result = out.copy()
        at = np.arange(x.size)
        take = at % 3 != 0
        # A program's numbers begin again at its first cell: the index is over the whole grid.
        op.at(result, at[take] % cells, x[take])
        return result

    @staticmethod
    def control(x: Array, n: int) -> Array:
        total = np.zeros_like(x)
        for k in range(n):
            if k % 2 == 0:
                total = total + x
            elif k > 4:
                total = total - 1
            else:
                total = np.where(x > 0, total * 2, total)
        while n > 0:
            total, n = total + n, n // 2
        return total + 3

    @staticmethod
    def swizzled(width: int, height: int, depth: int, group: int) -> Array:
        out = np.zeros(width * height * depth, np.int64)
        for z in range(depth):
            for y in range(height):
                for x in range(width):
                    index = x * height + y
                    first = index // (group * height) * group
                    size = min(width - first, group)
                    inside = index % (group * height)
                    out[x + width * (y + height * z)] = (first + inside % size) * 100 + inside // size + 10000 * depth
        return out

    @staticmethod
    def philox(seed: int, n: int) -> Array:
        mask = 0xFFFFFFFF
        words = []
        for i in range(n):
            c, k = [i, 0, 0, 0], [seed, 0]
            for _ in range(10):
                a, b = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
                c = [(b >> 32) ^ c[1] ^ k[0], b & mask, (a >> 32) ^ c[3] ^ k[1], a & mask]
                k = [(k[0] + 0x9E3779B9) & mask, (k[1] + 0xBB67AE85) & mask]
            words.append(c)
        table = np.array(words, np.uint32)
        return np.concatenate([np.bitwise_xor.reduce(table, axis=1), table[:, 0]]).view(np.int32)

    @staticmethod
    def softmax(x: Array) -> Array:
        e = np.exp(x.astype(np.float64) - x.astype(np.float64).max(axis=-1, keepdims=True))
        return e / e.sum(axis=-1, keepdims=True)

    @staticmethod
    def attention(q: Array, k: Array, v: Array, scale: float, causal: bool) -> Array:
        scores = np.matmul(q.astype(np.float64), k.astype(np.float64).transpose(0, 2, 1)) * scale
        if causal:
            scores = np.where(np.tril(np.ones(scores.shape[1:], bool)), scores, -1e6)
        return np.matmul(F.softmax(scores), v.astype(np.float64))


class AnyOrder(np.ndarray[Any, Any]):
    """An expected array whose elements may come in any order."""


def expected(case: corpus_cases.Case, before: dict[str, Array]) -> dict[str, tuple[Array, float]]:
    """Name → what the buffer has to hold, and how far off it may be."""

    def scope(text: str, names: dict[str, Array]) -> Array:
        with np.errstate(all="ignore"):
            return np.asanyarray(eval(text, {"np": np, "F": F, **names}))  # the corpus' own texts

    if case.expressions:
        names = {key[2:]: value for key, value in before.items() if key.startswith("p_")}
        return {
            f"o{k}": (
                scope(e.numpy, names),
                corpus_cases.TOLERANCE.get(e.dtype, 0.0) if e.tolerance is None else e.tolerance,
            )
            for k, e in enumerate(case.expressions)
            if e.numpy
        }
    if case.reference is None:
        return {}
    return {key: (value, case.tolerance) for key, value in case.reference(scope, before).items()}


def difference(found: Array, want: Array, tolerance: float, absolute: float) -> str:
    """Empty, or what is wrong first."""
    if isinstance(want, AnyOrder):
        found, want = np.sort(found), np.asarray(want)
    if want.shape != found.shape:
        want = want.reshape(found.shape)
    if found.dtype.kind in "iu":
        wrong = found != want.astype(found.dtype)
    else:
        with np.errstate(all="ignore"):
            w, f = want.astype(found.dtype).astype(np.float64), found.astype(np.float64)
            near = np.abs(f - w) <= tolerance * np.abs(w) + absolute
            wrong = ~((f == w) | (np.isnan(f) & np.isnan(w)) | near)
    if not wrong.any():
        return ""
    at = np.unravel_index(int(np.argmax(wrong)), wrong.shape)
    return (
        f"{int(wrong.sum())} of {wrong.size} differ; at {tuple(int(i) for i in at)}: {found[at]}, expected {want[at]}"
    )


@dataclass
class Outcome:
    """`checked`: results that were compared. `problems` is empty when all is well."""

    checked: int
    problems: list[str]


def run(runner: Runner, case: corpus_cases.Case, folder: Path, arch: int) -> Outcome:
    about = json.loads((folder / f"{case.name}.json").read_text())
    before = {name: fill(buffer, f"{case.name}.{name}") for name, buffer in case.buffers.items()}
    with tempfile.TemporaryDirectory(dir="/dev/shm") as scratch:
        names = [name for name in about["parameters"] if name in before]
        files = {name: str(Path(scratch) / name) for name in names}
        for name in names:
            before[name].tofile(files[name])
        buffers = [{"file": files[name], "bytes": before[name].nbytes} for name in names]
        parameters: list[dict[str, Any]] = []
        for name in about["parameters"]:
            if name in names:
                parameters.append({"buffer": names.index(name)})
            else:
                value = np.array(case.scalars[name], SCALAR[case.signature[name]])
                parameters.append({"hex": value.tobytes().hex()})
        clusters = about["num_ctas"] or math.prod(about["cluster_dims"] or [1])
        programs = math.prod(case.grid)
        declared = (folder / f"{case.name}.ptx").read_text().split(".entry")[1].split(")")[0].count(".param")
        for key in ("global_scratch_size", "profile_scratch_size"):
            if len(parameters) < declared:
                size = max(16, (about[key] or 0) * programs * clusters)
                path = Path(scratch) / key
                path.write_bytes(bytes(size))
                buffers.append({"file": str(path), "bytes": size})
                parameters.append({"buffer": len(buffers) - 1})
        answer = runner.ask(
            {
                "op": "run",
                "arch": arch,
                "ptx": str(folder / f"{case.name}.ptx"),
                "kernel": about["name"],
                "grid": [case.grid[0] * clusters, *case.grid[1:]],
                "block": [about["threads"], 1, 1],
                "cluster": [clusters, 1, 1],
                "shared": about["shared"],
                "seconds": 60,
                "buffers": buffers,
                "parameters": parameters,
            }
        )
        if "error" in answer:
            return Outcome(0, [f"{answer['error']} {answer.get('fault', '')}"])
        after = {name: np.fromfile(files[name], before[name].dtype).reshape(before[name].shape) for name in names}
    problems, checked = [], 0
    for name, (want, tolerance) in expected(case, before).items():
        checked += 1
        what = difference(after[name], want, tolerance, case.absolute)
        if what:
            text = case.expressions[int(name[1:])].triton if case.expressions else name
            problems.append(f"{text}: {what}")
    return Outcome(checked, problems)
