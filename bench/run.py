#!/usr/bin/env python3
"""Takes the figures of docs and issues in one run and prints one table.

    bench/run.py [--interpreter PYTHON] [--json FILE] [NAME ...]

Every figure is a ratio against a baseline that is taken in turn with it, on the same machine, in the same minutes.
Needs build/dev (cmake --preset dev) and deploy/setup.sh --for tests. The emulator's rows need a Python that has torch
and Triton 3.9 (--interpreter; left out without it).
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
BUILD = Path(os.environ.get("TRUN_BUILD_DIR", ROOT / "build/dev"))
TOOLCHAINS = Path(os.environ.get("TRUN_TOOLCHAINS_DIR", ROOT / "build/toolchains"))
sys.path.insert(0, str(ROOT / "tests/integration"))
# The checks of results below are products of matrices: NumPy's threads would spin for another 100 ms afterwards, on the
# core that the next kernel is timed on.
os.environ["OPENBLAS_NUM_THREADS"] = "1"

import conftest  # noqa: E402

conftest._generate_stubs()
import numpy as np  # noqa: E402
from daemon import Daemon  # noqa: E402
from trun.v1 import launch_pb2  # noqa: E402


class Row:
    def __init__(self, name: str, ours: str, baseline: str, ratio: float, bar: float, at_most: bool) -> None:
        self.name, self.ours, self.baseline, self.ratio, self.bar = name, ours, baseline, ratio, bar
        self.met = ratio <= bar if at_most else ratio >= bar
        self.bar_text = f"{'≤' if at_most else '≥'} {bar:g}"

    def cells(self) -> list[str]:
        verdict = "met" if self.met else "MISSED"
        return [self.name, self.ours, self.baseline, f"{self.ratio:.2f}", self.bar_text, verdict]


def socket_rows(daemon: Daemon) -> list[Row]:
    file = ROOT / "examples/kernels/vector_add.ttir"
    out = subprocess.run(
        [BUILD / "bench/socket_bench", daemon.socket, file], capture_output=True, text=True, check=True
    )
    times = json.loads(out.stdout)
    empty, hit, opened = (times[k]["p50_us"] for k in ("empty_unary", "compile_hit", "open_session"))
    return [
        Row("compile, cache hit / empty unary RPC (p50)", f"{hit:.0f} µs", f"{empty:.0f} µs", hit / empty, 2, True),
        Row("open a session, warm executor (p50, ms)", f"{opened / 1e3:.2f} ms", "-", opened / 1e3, 10, True),
    ]


class LineProgram:
    """A program that answers each line with a number."""

    def __init__(self, *command: str | Path) -> None:
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True)

    def ask(self, line: str) -> float:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline())

    def close(self) -> None:
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait()


def compile_rows(daemon: Daemon) -> list[Row]:
    """First compiles in a warm pool, against the same toolchain's stages in a plain loop, in turn."""
    rows = []
    ours = LineProgram(BUILD / "bench/compile_bench", daemon.socket, "3.9.0")
    baseline = LineProgram(TOOLCHAINS / "3.9.0/bin/python", "-W", "ignore", ROOT / "bench/stages.py")
    for name in ("vector_add", "matmul"):
        file = ROOT / f"examples/kernels/{name}.ttir"
        times = []
        for i in range(24):
            theirs = baseline.ask(f"{file} {name}{i} cubin")
            # Another name, not another comment: files that meet at one TTGIR would share the rest.
            times.append((ours.ask(f"{file} {name}{i}"), theirs))
        mine, base = (statistics.median(column) for column in zip(*times[4:], strict=True))
        ratio = statistics.median(a / b for a, b in times[4:])
        label = f"first compile of {name} / its stages"
        rows.append(Row(label, f"{mine:.1f} ms", f"{base:.1f} ms", ratio, 1.15, True))
    ours.close()
    baseline.close()
    return rows


def sweep_rows() -> list[Row]:
    """32 configurations from source to cubin: bench/sweep/sweep.py."""
    out = subprocess.run([sys.executable, ROOT / "bench/sweep/sweep.py"], stdout=subprocess.PIPE, text=True, check=True)
    figures = json.loads(out.stdout)
    one, two, triton, halves = (f"{figures[k]:.1f} s" for k in ("one_worker", "two_workers", "triton", "two_tritons"))
    ceiling = f"one Triton process / two with half each, the machine's own: {halves}"
    scaling, against = figures["one_worker_over_two"], figures["two_workers_over_triton"]
    return [
        Row("sweep of 32 configurations: one worker / two", two, one, scaling, 1.7, False),
        Row("sweep: two workers / Triton's autotuner in one process", two, triton, against, 0.6, True),
        Row(ceiling, halves, triton, figures["one_triton_over_two"], 1.0, False),
    ]


def command_line_rows(daemon: Daemon) -> list[Row]:
    command = [BUILD / "bin/trun-client", "run", ROOT / "examples/kernels/vector_add.ttir"]
    command += ["--arg", "0=f32[4096]:randn(seed=1)", "--arg", "1=f32[4096]:randn(seed=2)", "--arg", "2=f32[4096]"]
    command += ["--arg", "3=4096", "--grid", "4"]
    environment = {**os.environ, "TRUN_ADDRESS": f"unix:{daemon.socket}"}
    times = []
    for _ in range(25):
        start = time.perf_counter()
        subprocess.run(command, env=environment, check=True, capture_output=True)
        times.append((time.perf_counter() - start) * 1e3)
    median = statistics.median(times[2:])
    return [Row("trun-client run, cached vector add, exec to exit (ms)", f"{median:.1f} ms", "-", median, 60, True)]


def upload_rows(daemon: Daemon) -> list[Row]:
    out = subprocess.run([BUILD / "bench/upload_bench", daemon.socket], capture_output=True, text=True, check=True)
    times = json.loads(out.stdout)
    rows = []
    for kind in ("fresh", "warm"):
        ours, theirs = times[f"upload_{kind}_ms"], times[f"memcpy_{kind}_ms"]
        name = f"256 MiB into a {kind} tensor / memcpy into {kind} shared memory"
        rows.append(Row(name, f"{ours:.0f} ms", f"{theirs:.0f} ms", times[f"ratio_{kind}"], 1.2, True))
    return rows


def emulator_rows(daemon: Daemon, interpreter: str) -> list[Row]:
    """Second launch, timed inside the executor, against TRITON_INTERPRET=1; the same source for both."""
    rows = []
    folder = Path(tempfile.mkdtemp(dir=daemon.folder))
    source = ROOT / "bench/interpreter"
    quiet = {**os.environ, "TRITON_CACHE_DIR": str(folder / "triton")}
    lower = [TOOLCHAINS / "3.9.0/bin/python", "-W", "ignore", source / "lower.py", folder]
    subprocess.run(lower, env=quiet, check=True)
    generator = np.random.default_rng(1)
    shapes: dict[str, list[tuple[tuple[int, ...], Any]]] = {
        "add": [((1 << 20,), np.float32)] * 3,
        "softmax": [((1024, 1000), np.float32)] * 2,
        "matmul": [((512, 512), np.float16)] * 2 + [((512, 512), np.float32)],
        "attention": [((4, 512, 64), np.float16)] * 4,
    }
    sizes = {"add": [1 << 20], "softmax": [1000, 1000], "matmul": [512, 512, 512], "attention": [512, 0.125]}
    grids = {"add": [1024], "softmax": [1024], "matmul": [8, 8], "attention": [8, 4]}
    bars = {"add": 60, "softmax": 50, "matmul": 30, "attention": 20}
    names = {"add": "add 1M", "softmax": "softmax 1024 x 1000", "matmul": "matmul 512³ fp16"}
    names["attention"] = "attention 1 x 4 x 512 x 64"
    for name, tensors in shapes.items():
        session = daemon.open_session()
        arrays = [generator.standard_normal(shape).astype(dtype) for shape, dtype in tensors]
        handles = [session.tensor(array) for array in arrays]
        kernel = session.compile((folder / f"{name}.ttir").read_text(), "ttir", toolchain="3.9.0").kernel
        session.launch(kernel, tuple(grids[name]), *handles, *sizes[name])
        check(name, arrays, session.read(handles[-1].tensor))
        from daemon import argument

        request = launch_pb2.LaunchRequest(session=session.id, kernel=kernel, grid=grids[name])
        request.arguments.extend(argument(a) for a in [*handles, *sizes[name]])
        request.deadline.seconds = 120
        timed = launch_pb2.BenchmarkRequest(launch=request, warmup=1, repetitions=7)
        reply = daemon.launches.Benchmark(timed, timeout=300)
        ours = statistics.median(t.ToNanoseconds() for t in reply.device_times) / 1e9
        session.close()
        out = subprocess.run(
            [interpreter, "-W", "ignore", source / "interpret.py", name, "3"],
            env={**os.environ, "TRITON_INTERPRET": "1"},
            capture_output=True,
            text=True,
            check=True,
        )
        theirs = json.loads(out.stdout)["median_s"]
        label = f"interpreter / emulator, {names[name]}"
        rows.append(Row(label, f"{ours * 1e3:.1f} ms", f"{theirs * 1e3:.0f} ms", theirs / ours, bars[name], False))
    return rows


def check(name: str, arrays: list[Any], result: bytes) -> None:
    got = np.frombuffer(result, dtype=arrays[-1].dtype).reshape(arrays[-1].shape).astype(np.float32)
    inputs = [a.astype(np.float32) for a in arrays[:-1]]
    if name == "add":
        expected = inputs[0] + inputs[1]
    elif name == "softmax":
        powers = np.exp(inputs[0] - inputs[0].max(1, keepdims=True))
        expected = powers / powers.sum(1, keepdims=True)
    elif name == "matmul":
        expected = inputs[0] @ inputs[1]
    else:
        scores = inputs[0] @ inputs[1].transpose(0, 2, 1) * 0.125
        powers = np.exp(scores - scores.max(2, keepdims=True))
        expected = powers / powers.sum(2, keepdims=True) @ inputs[2]
    worst = float(np.abs(got - expected).max())
    if not worst < 0.02:
        sys.exit(f"{name}: the emulator's result is off by {worst}")


def machine() -> str:
    model = next(line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name"))
    return f"{model.split(':')[1].strip()}, {os.cpu_count()} cores, Linux {platform.release()}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--interpreter", help="a Python that has torch and Triton 3.9")
    parser.add_argument("--json", type=Path, help="write the figures there too")
    parser.add_argument("names", nargs="*", help="socket compile sweep command upload emulator (default: all)")
    options = parser.parse_args()
    if options.interpreter and shutil.which(options.interpreter) is None:
        parser.error(f"--interpreter: {options.interpreter} is no program")
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as ending:
        daemon = Daemon(Path(folder), BUILD, TOOLCHAINS)
        groups: dict[str, Callable[[], list[Row]]] = {
            "socket": lambda: socket_rows(daemon),
            "compile": lambda: compile_rows(daemon),
            "sweep": sweep_rows,
            "command": lambda: command_line_rows(daemon),
            "upload": lambda: upload_rows(daemon),
        }
        if options.interpreter:
            groups["emulator"] = lambda: emulator_rows(daemon, options.interpreter)
        unknown = set(options.names) - set(groups)
        if unknown:
            parser.error(f"no such figures: {', '.join(sorted(unknown))}")
        daemon.start()
        ending.callback(daemon.stop)
        rows: list[Row] = []
        for name in options.names or groups:
            print(f"measuring {name} ...", file=sys.stderr, flush=True)
            rows += groups[name]()
    head = ["figure", "ours", "baseline", "ratio", "bar", ""]
    table = [head, *(row.cells() for row in rows)]
    widths = [max(len(line[i]) for line in table) for i in range(len(head))]
    print(f"{datetime.date.today()}, {machine()}")
    for line in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
    if options.json:
        figures = [dict(zip(head, row.cells(), strict=True)) for row in rows]
        record = {"date": str(datetime.date.today()), "machine": machine(), "figures": figures}
        options.json.write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n")
    return 0 if all(row.met for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
