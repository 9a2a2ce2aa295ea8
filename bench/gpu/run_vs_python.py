#!/usr/bin/env python3
"""From exec to the printed result of a cached vector add: trun-client against a Python with torch and Triton.

    bench/gpu/run_vs_python.py [--device cuda:0] [--repeat 5] [--json FILE]

Both are warm: the daemon runs and has the kernel in its cache, Triton has it in its own, files are in the page cache.
The two take turns, so that both see the same minutes; the figure is the ratio of the medians. A Python that only
imports torch and Triton and an empty `trun-client version` are timed beside them, to tell what the rest is. Needs
trun-client in PATH, in bin/ of the bundle or in TRUN_BUILD_DIR/bin, and a Python (--python, else this one) with torch
and Triton; the daemon adopts that Triton. Exits 1 when the bar is missed.
"""

from __future__ import annotations

import argparse
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
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BAR = 20.0


def find_client() -> str:
    build = os.environ.get("TRUN_BUILD_DIR", str(ROOT / "build/dev"))
    for place in (ROOT / "bin/trun-client", Path(build) / "bin/trun-client"):
        if place.is_file():
            return str(place)
    found = shutil.which("trun-client")
    if not found:
        sys.exit("run_vs_python.py: no trun-client in bin/, TRUN_BUILD_DIR/bin or PATH")
    return found


def seconds(command: list[str], environment: dict[str, str]) -> float:
    started = time.perf_counter()
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    taken = time.perf_counter() - started
    if done.returncode != 0:
        sys.exit(f"run_vs_python.py: {' '.join(command)} exited {done.returncode}\n{done.stdout}{done.stderr}")
    return taken


def driver() -> str:
    if shutil.which("nvidia-smi") is None:
        return "no GPU"
    query = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    return subprocess.run(query, capture_output=True, text=True).stdout.strip() or "no GPU"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--python", default=sys.executable, help="one with torch and Triton")
    parser.add_argument(
        "--baseline", default=str(Path(__file__).with_name("vector_add_torch.py")), help=argparse.SUPPRESS
    )
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--json", type=Path, help="write the figures there")
    given = parser.parse_args()

    client = find_client()
    with tempfile.TemporaryDirectory(prefix="trun-bench-") as home:
        os.chmod(home, 0o700)
        environment = dict(os.environ, HOME=home, XDG_RUNTIME_DIR=home, TRITON_CACHE_DIR=f"{home}/triton")
        environment["PYTHONDONTWRITEBYTECODE"] = "1"
        environment.pop("TRUN_ADDRESS", None)
        vector = "f32[4096]"
        run = [client, "run", str(ROOT / "examples/kernels/vector_add.ttir"), "--device", given.device, "--grid", "4"]
        run += ["--arg", f"x_ptr={vector}:ones", "--arg", f"y_ptr={vector}:ones", "--out", f"out_ptr={vector}"]
        run += ["--arg", "n_elements=4096"]
        commands = {
            "run": run,
            "python": [given.python, given.baseline],
            "version": [client, "version"],
            "import": [given.python, "-c", "import torch, triton"],
        }
        times: dict[str, list[float]] = {name: [] for name in commands}
        seconds([client, "daemon", "start"], environment)
        try:
            if not os.environ.get("TRUN_TOOLCHAINS_DIR"):
                seconds([client, "toolchains", "adopt", given.python], environment)
            for command in commands.values():  # warm: the first one compiles
                seconds(command, environment)
                seconds(command, environment)
            for _ in range(given.repeat):
                for name, command in commands.items():
                    times[name].append(seconds(command, environment))
        finally:
            seconds([client, "daemon", "stop"], environment)

    medians = {name: statistics.median(values) for name, values in times.items()}
    ratio = medians["python"] / medians["run"]
    figures = {
        "date": datetime.date.today().isoformat(),
        "system": platform.platform(),
        "gpu": driver(),
        "device": given.device,
        "repeat": given.repeat,
        "median_ms": {name: round(value * 1e3, 2) for name, value in medians.items()},
        "best_ms": {name: round(min(values) * 1e3, 2) for name, values in times.items()},
        "ratio": round(ratio, 1),
        "bar": BAR,
    }
    print(json.dumps(figures, indent=2))
    if given.json:
        given.json.write_text(json.dumps(figures, indent=2) + "\n")
    return 0 if ratio >= BAR else 1


if __name__ == "__main__":
    sys.exit(main())
