#!/usr/bin/env python3
"""32 configurations of one kernel, from source to cubin: the daemon with two compile workers and with one, Triton's own
autotuner in one process, and two such processes with half of the configurations each (what two cores can give at all).

    bench/sweep/sweep.py [--rounds 3] [--arch 80] [--toolchain 3.9.0]     prints JSON

The four are taken in turn, every one with fresh caches and after a compile that is not counted; the figures are the
medians over the rounds, of ratios taken within a round. Needs build/dev, and a Python with the client's needs.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
BUILD = Path(os.environ.get("TRUN_BUILD_DIR", ROOT / "build/dev"))
TOOLCHAINS = Path(os.environ.get("TRUN_TOOLCHAINS_DIR", ROOT / "build/toolchains"))
CLIENT = ROOT / "client/python"


def begin(command: list[Any], **environment: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, **environment}
    )
    assert process.stdout and process.stdout.readline() == "ready\n", command
    return process


def busy_seconds() -> float:
    """Of the whole machine."""
    user, nice, system = Path("/proc/stat").read_text().split()[1:4]
    return (int(user) + int(nice) + int(system)) / os.sysconf("SC_CLK_TCK")


def finish(processes: list[subprocess.Popen[str]]) -> dict[str, float]:
    """Lets them go at once, and waits for all: the slowest one's wall time, everybody's CPU time, and what the machine
    did beside them meanwhile, which must be next to nothing for a figure that is one."""
    busy = busy_seconds()
    for process in processes:
        assert process.stdin
        process.stdin.write("go\n")
        process.stdin.flush()
    answers = [json.loads(process.stdout.readline()) for process in processes if process.stdout]
    busy = busy_seconds() - busy
    for process in processes:
        process.communicate()
    assert sum(answer["configurations"] for answer in answers) == 32 and all(p.returncode == 0 for p in processes)
    return {
        "seconds": max(answer["seconds"] for answer in answers),
        "cpu_seconds": sum(answer["cpu_seconds"] for answer in answers),
        "others_cpu_seconds": round(busy - sum(answer["cpu_seconds"] for answer in answers), 2),
    }


def triton(parts: int, arch: str, toolchain: str) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        python = TOOLCHAINS / toolchain / "bin/python"
        command = [python, "-W", "ignore", HERE / "triton_sweep.py"]
        return finish(
            [
                begin([*command, str(part), str(parts), arch], TRITON_CACHE_DIR=f"{folder}/{part}")
                for part in range(parts)
            ]
        )


def daemon(workers: int, arch: str, toolchain: str) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        read, write = os.pipe()
        process = subprocess.Popen(
            [BUILD / "bin/trund", "--socket", f"{folder}/s", "--cache-dir", f"{folder}/cache", "--ready-fd", str(write)]
            + ["--toolchains-dir", TOOLCHAINS, "--log-file", f"{folder}/log", "--compile-workers", str(workers)],
            pass_fds=[write],
        )
        os.close(write)
        assert os.read(read, 1), "trund did not start"
        os.close(read)
        try:
            command = [sys.executable, HERE / "trun_sweep.py", str(workers), arch, toolchain]
            address = {"TRUN_ADDRESS": f"unix:{folder}/s", "TRUND_PID": str(process.pid)}
            return finish([begin(command, PYTHONPATH=str(CLIENT / "src"), **address)])
        finally:
            process.terminate()
            process.wait()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--arch", default="80")
    parser.add_argument("--toolchain", default="3.9.0")
    options = parser.parse_args()
    sys.path.insert(0, str(CLIENT))
    import generate_stubs

    generate_stubs.generate(CLIENT / "src")
    rounds: list[dict[str, Any]] = []
    for number in range(options.rounds):
        each = (options.arch, options.toolchain)
        ways = {
            "two_workers": lambda e=each: daemon(2, *e),
            "triton": lambda e=each: triton(1, *e),
            "one_worker": lambda e=each: daemon(1, *e),
            "two_tritons": lambda e=each: triton(2, *e),
        }
        names = list(ways) if number % 2 == 0 else list(reversed(ways))
        taken: dict[str, Any] = {name: {"load_before": os.getloadavg()[0], **ways[name]()} for name in names}
        rounds.append(taken)
        print(f"{time.strftime('%H:%M:%S')} {json.dumps(taken)}", file=sys.stderr, flush=True)

    def median(value: Any) -> float:
        return round(statistics.median(value(taken) for taken in rounds), 3)

    figures: dict[str, Any] = {
        "one_worker_over_two": median(lambda t: t["one_worker"]["seconds"] / t["two_workers"]["seconds"]),
        "two_workers_over_triton": median(lambda t: t["two_workers"]["seconds"] / t["triton"]["seconds"]),
        "one_triton_over_two": median(lambda t: t["triton"]["seconds"] / t["two_tritons"]["seconds"]),
        "cpu_over_triton": median(lambda t: t["two_workers"]["cpu_seconds"] / t["triton"]["cpu_seconds"]),
    }
    figures |= {name: median(lambda t, n=name: t[n]["seconds"]) for name in rounds[0]}
    print(json.dumps({**figures, "rounds": rounds}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
