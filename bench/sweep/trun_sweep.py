"""The same sweep through a daemon: TRUN_ADDRESS, and what stands beside ARCH. Prints the same line as triton_sweep.py.

Run with a Python that has the client and no Triton: WORKERS ARCH TOOLCHAIN.
"""

import concurrent.futures
import json
import os
import sys
import time
from pathlib import Path

import numpy as np
import trun

sys.path.insert(0, str(Path(__file__).parent))
import kernel

WORKERS, ARCH, TOOLCHAIN = int(sys.argv[1]), sys.argv[2], sys.argv[3]


def tree(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task").glob("*/children")
    found = [int(child) for file in children for child in file.read_text().split()]
    return [pid, *(below for child in found for below in tree(child))]


def cpu_seconds() -> float:
    """Of this process, and of the daemon with all that it started."""
    ticks = 0
    for pid in tree(int(os.environ["TRUND_PID"])):
        ticks += sum(int(n) for n in Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[11:15])
    own = os.times()
    return ticks / os.sysconf("SC_CLK_TCK") + own.user + own.system


with trun.connect(device="emulator:0") as session:
    tensors = [np.zeros((512, 512), np.float16) for _ in range(3)]
    jit = kernel.matmul.base

    def compile_one(config: trun.Config) -> trun.Kernel:
        given = {**config.all_kwargs()}
        bound = jit.bind((*tensors, *(512,) * 6), given, jit._collect()[0])
        bundle = jit.bundle(bound.arguments)
        options = {"level": "python", "options": bound.options, "toolchain": TOOLCHAIN}
        return session.load(bundle, **options, target=f"sm_{ARCH}", to="cubin")

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        warm = [trun.Config({"BLOCK_M": 32, "BLOCK_N": 32, "BLOCK_K": k}) for k in (16, 32, 64, 128)][: 2 * WORKERS]
        list(pool.map(compile_one, warm))
        print("ready", flush=True)
        sys.stdin.readline()
        begun, cpu = time.perf_counter(), cpu_seconds()
        made = list(pool.map(compile_one, kernel.CONFIGS))
        spent = {
            "seconds": time.perf_counter() - begun,
            "cpu_seconds": cpu_seconds() - cpu,
            "configurations": len(made),
        }
    assert not any(one.cached for one in made)
print(json.dumps(spent), flush=True)
