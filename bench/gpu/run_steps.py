#!/usr/bin/env python3
"""Where the time of a short session on a device goes: each call of a cached vector add, from connecting to the end.

    bench/gpu/run_steps.py [--device cuda:0] [--repeat 7]

Uses the daemon of TRUN_ADDRESS, or starts one. Between two rounds it waits until a warm spare is there again.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from pathlib import Path

import numpy as np
import trun

KERNEL = Path(__file__).resolve().parents[2] / "examples/kernels/vector_add.ttir"


def round_trip(device: str) -> dict[str, float]:
    marks = [("begin", time.perf_counter())]

    def mark(name: str) -> None:
        marks.append((name, time.perf_counter()))

    session = trun.connect(device=device)
    mark("open")
    kernel = session.load(KERNEL)
    mark("compile (cached)")
    x, y, out = (session.empty(4096) for _ in range(3))
    mark("allocate")
    x.copy_from(np.ones(4096, np.float32))
    y.copy_from(np.ones(4096, np.float32))
    mark("write")
    kernel[4,](x, y, out, 4096)
    mark("first launch")
    kernel[4,](x, y, out, 4096)
    mark("second launch")
    if not (out.numpy() == 2).all():
        sys.exit("run_steps.py: the sum is wrong")
    mark("read")
    session.close()
    mark("close")
    return {name: 1e3 * (at - before) for (_, before), (name, at) in zip(marks, marks[1:], strict=False)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--repeat", type=int, default=7)
    given = parser.parse_args()
    rounds = []
    for _ in range(given.repeat + 1):
        rounds.append(round_trip(given.device))
        time.sleep(1.0)  # a spare takes a third of that
    steps = {name: round(statistics.median(r[name] for r in rounds[1:]), 2) for name in rounds[0]}
    print(json.dumps({"device": given.device, "median_ms": steps, "sum_ms": round(sum(steps.values()), 2)}, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
