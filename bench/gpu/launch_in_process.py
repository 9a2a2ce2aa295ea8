#!/usr/bin/env python3
"""What a launch costs the caller in-process: Triton alone, the daemon's cubin by Triton's launcher, and by ours.

    launch_in_process.py [--rounds 3] [--json FILE]

Needs a GPU and a python3 with torch, Triton and trun. Each side is a process of its own; they take turns, and the best
of each is told: microseconds of the caller's time for a call of the kernel (jit), and for its launcher alone (launch),
of a kernel with 4 arguments and of one with 19.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable

SIDES = ("triton alone", "trun, triton's launcher", "trun, native launcher")
OPTIONS = {SIDES[1]: ["--launcher", "triton"], SIDES[2]: ["--launcher", "native"]}


def best(call: Callable[[], object], synchronize: Callable[[], object], count: int = 400, rounds: int = 9) -> float:
    times = []
    for _ in range(rounds):
        synchronize()
        start = time.perf_counter()
        for _ in range(count):  # fewer than a stream's queue holds, so that nothing waits for the GPU
            call()
        times.append((time.perf_counter() - start) / count * 1e6)
    return min(times)


def measure() -> dict[str, float]:
    import torch
    from launch_kernels import add, many

    x = torch.rand(1024, device="cuda")
    numbers = list(range(2, 13))
    kernel = add[(4,)](x, x, x, 1000, BLOCK=256)
    wide = many[(1,)](*[x] * 8, *numbers)
    leading = (4, 1, 1, torch.cuda.current_stream().cuda_stream)
    fixed = (kernel.packed_metadata, None, None, None)
    wide_fixed = (wide.packed_metadata, None, None, None)
    start, start_wide = add[(4,)], many[(4,)]
    wait = torch.cuda.synchronize
    return {
        "jit, 4 arguments": best(lambda: start(x, x, x, 1000, BLOCK=256), wait),
        "jit, 19 arguments": best(lambda: start_wide(*[x] * 8, *numbers), wait),
        "launch, 4 arguments": best(lambda: kernel.run(*leading, kernel.function, *fixed, x, x, x, 1000, 256), wait),
        "launch, 19 arguments": best(
            lambda: wide.run(*leading, wide.function, *wide_fixed, x, x, x, x, x, x, x, x, *numbers), wait
        ),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", help="where to write the figures")
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        print(json.dumps(measure()))
        return 0
    figures: dict[str, dict[str, float]] = {}
    for _ in range(given.rounds):
        for side in SIDES:
            under = ["-m", "trun.triton", "--placement", "in-process", *OPTIONS[side]] if side in OPTIONS else []
            command = [sys.executable, *under, os.path.abspath(__file__), "--measure"]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode != 0:
                print(f"{side}: {done.stderr[-2000:]}", file=sys.stderr)
                return 1
            taken = json.loads(done.stdout.splitlines()[-1])
            before = figures.setdefault(side, taken)
            figures[side] = {name: min(value, before[name]) for name, value in taken.items()}
    alone = figures[SIDES[0]]
    for name in alone:
        row = [f"{side} {figures[side][name]:.2f} µs ({figures[side][name] / alone[name]:.2f})" for side in SIDES]
        print(f"{name}: {', '.join(row)}")
    if given.json:
        with open(given.json, "w") as file:
            json.dump(figures, file, indent=1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
