"""The compile phase of Triton's own autotuner, in one process: the baseline of a sweep.

Run with a toolchain's Python, with TRITON_CACHE_DIR on an empty folder: FIRST STEP ARCH. Compiles the configurations
FIRST, FIRST + STEP, ... ("0 1": all) after a first compile that is not counted; writes {"seconds", "cpu_seconds",
"configurations"} when a line comes on stdin, so that several of it can begin at the same moment.
"""

import json
import os
import sys
import time
from pathlib import Path

import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.runtime.driver import driver
from triton.runtime.jit import MockTensor

sys.path.insert(0, str(Path(__file__).parent))
import kernel

FIRST, STEP, ARCH = (int(word) for word in sys.argv[1:])


class NoDevice:
    """What a compile asks of a driver."""

    def get_current_target(self):
        return GPUTarget("cuda", ARCH, 32)

    def get_current_device(self):
        return 0

    def get_current_stream(self, device):
        return 0


class Fp16(MockTensor):
    def __init__(self):
        super().__init__(tl.float16)


def cpu_seconds() -> float:
    own = os.times()
    return own.user + own.system + own.children_user + own.children_system


driver.set_active(NoDevice())
sizes = (512, 512, 512, 512, 512, 512)
tensors = (Fp16(), Fp16(), Fp16())
warm = triton.Config({"BLOCK_M": 32, "BLOCK_N": 32, "BLOCK_K": 32})
kernel.matmul.fn.warmup(*tensors, *sizes, grid=(1,), **warm.all_kwargs())
kernel.matmul.configs = kernel.CONFIGS[FIRST::STEP]
print("ready", flush=True)
sys.stdin.readline()
begun, cpu = time.perf_counter(), cpu_seconds()
made = kernel.matmul.warmup(*tensors, *sizes, grid=(1,))
spent = {"seconds": time.perf_counter() - begun, "cpu_seconds": cpu_seconds() - cpu, "configurations": len(made)}
assert all(len(one.asm["cubin"]) > 1000 for one in made)
print(json.dumps(spent), flush=True)
