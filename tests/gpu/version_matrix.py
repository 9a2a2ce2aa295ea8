"""Kernels of every Triton version on one GPU: carried there as files, run through the daemon there.

    version_matrix.py pack FOLDER      compiles for sm_90 with every installed version (where the compilers are)
    version_matrix.py run FOLDER       runs all of it on TRUN_CONFORMANCE_DEVICE (cuda:0), where the GPU is

`run` needs the trun package, trun-client and NumPy. PTX and cubin need no Triton there; earlier levels are run for the
versions that the daemon there has. FOLDER/results.md is the table; the exit code is 1 when a number is wrong, or a file
that should run does not.
"""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
LEVELS = ["ttir", "ttgir", "llir", "ptx", "cubin"]
WITHOUT_TRITON = ("ptx", "cubin")
ARCH = 90


def pack(folder: Path) -> int:
    sys.path.insert(0, str(ROOT / "tests/toolchain"))
    from versions import INSTALLED
    from worker import Worker

    for version in INSTALLED:
        worker = Worker(version)
        for kernel in CASES:
            text = (ROOT / f"examples/kernels/{kernel}.ttir").read_bytes()
            made = worker.compile(text, "ttir", "cubin", ARCH)
            place = folder / version
            place.mkdir(parents=True, exist_ok=True)
            for level, content in {"ttir": text, **made.artifacts}.items():
                (place / f"{kernel}.{level}").write_bytes(content)
            (place / f"{kernel}.json").write_text(json.dumps(made.metadata, sort_keys=True))
        worker.close()
        print(f"{version}: {len(CASES)} kernels", flush=True)
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    print(f"{folder}: {size / 1e6:.1f} MB")
    return 0


def random(*shape: int, dtype: Any = "float32", seed: int = 1) -> Any:
    import numpy as np

    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


class Case:
    """Arguments and grid of a launch, and by position what must come out, within a tolerance."""

    def __init__(self, arguments: list[Any], grid: tuple[int, ...], expected: dict[int, Any], tolerance: float) -> None:
        self.arguments, self.grid, self.expected, self.tolerance = arguments, grid, expected, tolerance


def vector_add() -> Case:
    n = 100_003
    x, y = random(n), random(n, seed=2)
    return Case([x, y, 0 * x, n], (math.ceil(n / 1024),), {2: x + y}, 0)


def softmax() -> Case:
    import numpy as np

    x = random(37, 999)
    powers = np.exp(x - x.max(1, keepdims=True))
    return Case([0 * x, x, 999, 999, 999], (37,), {0: powers / powers.sum(1, keepdims=True)}, 1e-6)


def layer_norm() -> Case:
    import numpy as np

    rows, columns = 33, 777
    x, w, b = random(rows, columns), random(columns, seed=2), random(columns, seed=3)
    y = (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-5) * w + b
    outputs = [np.zeros(rows, np.float32), np.zeros(rows, np.float32)]
    return Case([x, 0 * x, w, b, *outputs, columns, columns, 1e-5], (rows,), {1: y}, 3e-5)


def transpose() -> Case:
    import numpy as np

    x = random(145, 271)
    return Case([x, np.zeros((271, 145), np.float32), 145, 271], (5, 9), {1: x.T}, 0)


def matmul_fp16() -> Case:
    import numpy as np

    m, n, k = 333, 352, 464
    a, b = random(m, k, dtype="float16"), random(k, n, dtype="float16", seed=2)
    expected = a.astype(np.float32) @ b.astype(np.float32)
    grid = (math.ceil(m / 64), math.ceil(n / 64))
    return Case([a, b, np.zeros((m, n), np.float16), m, n, k, k, n, n], grid, {2: expected}, 1e-1)


CASES: dict[str, Callable[[], Case]] = {
    "vector_add": vector_add,
    "softmax": softmax,
    "layer_norm": layer_norm,
    "transpose": transpose,
    "matmul_fp16": matmul_fp16,
}


def run_one(session: Any, file: Path, level: str, version: str, case: Case) -> str:
    """ "ok", or what went wrong."""
    import numpy as np
    import trun

    toolchain = None if level in WITHOUT_TRITON else version
    try:
        kernel = session.load(file, level=level, metadata=file.with_suffix(".json"), toolchain=toolchain)
        kernel[case.grid](*case.arguments)
    except trun.TrunError as error:
        return f"{error.reason}: {str(error).splitlines()[0][:120]}"
    for position, expected in case.expected.items():
        got = case.arguments[position].astype(np.float64)
        worst = float(np.abs(got - expected).max())
        if not worst <= case.tolerance:
            return f"WRONG: argument {position} is off by {worst:g}"
    return "ok"


def run(folder: Path) -> int:
    import trun

    device = os.environ.get("TRUN_CONFORMANCE_DEVICE", "cuda:0")
    cells: dict[tuple[str, str], str] = {}
    wrong = 0
    with trun.connect(device=device) as session:
        there = {toolchain.name for toolchain in session.toolchains()}
        versions = sorted(entry.name for entry in folder.iterdir() if entry.is_dir())
        for version in versions:
            for level in LEVELS:
                if level not in WITHOUT_TRITON and version not in there:
                    cells[version, level] = "not installed there"
                    continue
                answers = {
                    name: run_one(session, folder / version / f"{name}.{level}", level, version, make())
                    for name, make in CASES.items()
                }
                bad = {name: answer for name, answer in answers.items() if answer != "ok"}
                # A driver, or a ptxas, need not know the PTX of a newer compiler: it must run its machine code.
                too_new = ("UNSUPPORTED", "INVALID_IR", "TOOLCHAIN_NOT_FOUND")
                excused = level == "ptx" and all(answer.startswith(too_new) for answer in bad.values())
                wrong += 0 if excused else len(bad)
                cells[version, level] = "ok" if not bad else "; ".join(f"{n}: {a}" for n, a in bad.items())
                if bad and excused:
                    cells[version, level] = f"{next(iter(bad.values())).split(':')[0]}: PTX newer than the ptxas there"
                print(f"{version} {level}: {cells[version, level]}", flush=True)
        name = session.device
    lines = [f"Kernels of every version on {name}: {', '.join(CASES)}", "", "| Triton | " + " | ".join(LEVELS) + " |"]
    lines.append("|" + " --- |" * (len(LEVELS) + 1))
    lines += ["| " + " | ".join([version, *(cells[version, level] for level in LEVELS)]) + " |" for version in versions]
    (folder / "results.md").write_text("\n".join(lines) + "\n")
    print((folder / "results.md").read_text())
    return 1 if wrong else 0


def main() -> int:
    if len(sys.argv) != 3 or sys.argv[1] not in ("pack", "run"):
        print(__doc__, file=sys.stderr)
        return 2
    return {"pack": pack, "run": run}[sys.argv[1]](Path(sys.argv[2]))


if __name__ == "__main__":
    sys.exit(main())
