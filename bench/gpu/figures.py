#!/usr/bin/env python3
"""Makes one file for bench/baselines out of what was measured on a GPU.

Usage: figures.py DATE MACHINE OUTPUT_OF_GPU_SESSION_TEST... < OUTPUT_OF_GPU_BENCH

The session test's outputs have lines "FIGURE name value unit", one run each; gpu_bench prints a JSON object. Opening a
session with a spare executor is held against opening one without, in the same run.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path


def main() -> int:
    if len(sys.argv) < 4:
        print(__doc__)
        return 2
    runs: dict[str, list[float]] = {}
    for path in sys.argv[3:]:
        for line in Path(path).read_text(encoding="utf-8").splitlines():
            if line.startswith("FIGURE "):
                _, name, value, _ = line.split()
                runs.setdefault(name, []).append(float(value))
    if not runs:
        print("no FIGURE lines", file=sys.stderr)
        return 1
    opened = [runs.get(f"session_open_{how}_spare_ms", []) for how in ("without", "with")]
    if not opened[0] or len(opened[0]) != len(opened[1]):
        print(f"{len(opened[0])} sessions opened without a spare and {len(opened[1])} with one", file=sys.stderr)
        return 1
    runs["session_open_without_spare_ratio"] = [
        float(f"{without / spare:.4g}") for without, spare in zip(*opened, strict=True)
    ]
    bench = json.load(sys.stdin)
    lacking = [f"launch_{how}_ratio" for how in ("unary", "stream_round_trip", "stream_batch_of_64")]
    lacking = [name for name in lacking if name not in bench]
    if lacking:
        print(f"gpu_bench said nothing of {', '.join(lacking)}", file=sys.stderr)
        return 1
    facts = {key: bench.pop(key) for key in ("kernel", "device", "driver")}
    json.dump(
        {"date": sys.argv[1], "machine": sys.argv[2], **facts, "daemon": bench, "sessions": runs}, sys.stdout, indent=1
    )
    print()
    return 0


if __name__ == "__main__":
    sys.exit(main())
