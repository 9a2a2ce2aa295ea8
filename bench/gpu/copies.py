#!/usr/bin/env python3
"""Arrays of 1 GiB to a GPU's tensor and back, by the Python client, against one pinned cuMemcpy of this process.

    bench/gpu/copies.py [--device cuda:0] [--mebibytes 1024] [--json FILE]

Uses the daemon of TRUN_ADDRESS, or starts one. An ordinary array, copied by threads of the client; and one of
Session.pinned(), which the GPU takes as it is.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import trun


def seconds(action: Callable[[], Any], repeat: int = 5) -> float:
    times = []
    for _ in range(repeat + 1):
        started = time.perf_counter()
        action()
        times.append(time.perf_counter() - started)
    return statistics.median(times[1:])  # the first makes what is made once


def pinned_cumemcpy(nbytes: int, library: str) -> tuple[float, float]:
    """Seconds up and down of one copy by the driver alone."""
    cuda = ctypes.CDLL(library)

    def check(code: int) -> None:
        if code != 0:
            sys.exit(f"copies.py: the driver answered {code}")

    context, device, host = ctypes.c_void_p(), ctypes.c_uint64(), ctypes.c_void_p()
    check(cuda.cuInit(0))
    check(cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), 0))
    check(cuda.cuCtxSetCurrent(context))
    check(cuda.cuMemAlloc_v2(ctypes.byref(device), ctypes.c_size_t(nbytes)))
    check(cuda.cuMemHostAlloc(ctypes.byref(host), ctypes.c_size_t(nbytes), 0))
    ctypes.memset(host, 1, nbytes)
    size = ctypes.c_size_t(nbytes)
    up = seconds(lambda: check(cuda.cuMemcpyHtoD_v2(device, host, size)))
    down = seconds(lambda: check(cuda.cuMemcpyDtoH_v2(host, device, size)))
    check(cuda.cuMemFreeHost(host))
    check(cuda.cuMemFree_v2(device))
    return up, down


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--mebibytes", type=int, default=1024)
    parser.add_argument("--libcuda", default=os.environ.get("TRUN_LIBCUDA", "libcuda.so.1"))
    parser.add_argument("--json", type=Path, help="write the figures there")
    given = parser.parse_args()
    nbytes = given.mebibytes << 20

    with trun.connect(device=given.device) as session:
        tensor = session.empty(nbytes, np.uint8)
        times: dict[str, tuple[float, float]] = {}
        for name, make in (("pinned", session.pinned), ("ordinary", np.zeros)):
            source, back = make(nbytes, np.uint8), make(nbytes, np.uint8)
            source[::4096] = np.arange(-(-nbytes // 4096)) % 251
            up = seconds(lambda source=source: tensor.copy_from(source))  # type: ignore[misc]
            down = seconds(lambda back=back: tensor.numpy(out=back))  # type: ignore[misc]
            if not np.array_equal(source, back):
                sys.exit("copies.py: what was read is not what was written")
            times[name] = up, down
        name = session.device_name
    ceiling = pinned_cumemcpy(nbytes, given.libcuda)
    figures: dict[str, Any] = {
        "kernel": platform.release(),
        "device": name,
        "bytes": nbytes,
        "python": platform.python_version(),
        "pinned_cumemcpy_gb_per_s": [round(nbytes / t / 1e9, 2) for t in ceiling],
    }
    for kind, taken in times.items():
        figures[f"{kind}_array"] = {
            "up_gb_per_s": round(nbytes / taken[0] / 1e9, 2),
            "down_gb_per_s": round(nbytes / taken[1] / 1e9, 2),
            "up_ratio": round(ceiling[0] / taken[0], 3),
            "down_ratio": round(ceiling[1] / taken[1], 3),
        }
    print(json.dumps(figures, indent=1))
    if given.json:
        given.json.write_text(json.dumps(figures, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
