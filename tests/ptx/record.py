"""Runs every case of forms.py on the first GPU and writes its answers, with pools and kernels, to a file.

usage: python record.py OUT.json
Needs the NVIDIA driver (its own compiler takes the PTX) and nothing else. A form that the driver refuses is listed on
stderr and left out.
"""

from __future__ import annotations

import ctypes
import json
import sys
from typing import Any

import forms


class CudaError(RuntimeError):
    """A driver call that failed."""


class Driver:
    """The few calls of libcuda that are needed."""

    def __init__(self) -> None:
        self.lib = ctypes.CDLL("libcuda.so.1")
        self.check("cuInit", 0)
        device = ctypes.c_int()
        self.check("cuDeviceGet", ctypes.byref(device), 0)
        name = ctypes.create_string_buffer(100)
        self.check("cuDeviceGetName", name, 100, device)
        self.name = name.value.decode()
        version = ctypes.c_int()
        self.check("cuDriverGetVersion", ctypes.byref(version))
        self.version = version.value
        context = ctypes.c_void_p()
        self.check("cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
        self.check("cuCtxSetCurrent", context)

    def check(self, call: str, *arguments: Any) -> None:
        code = getattr(self.lib, call)(*arguments)
        if code != 0:
            raise CudaError(f"{call} gave {code}")

    def allocate(self, size: int) -> ctypes.c_uint64:
        pointer = ctypes.c_uint64()
        self.check("cuMemAlloc_v2", ctypes.byref(pointer), ctypes.c_size_t(size))
        return pointer

    def run(self, ptx: str, pointers: list[ctypes.c_uint64]) -> None:
        module, function = ctypes.c_void_p(), ctypes.c_void_p()
        log = ctypes.create_string_buffer(4096)
        options = (ctypes.c_int * 2)(5, 6)  # CU_JIT_ERROR_LOG_BUFFER and its size
        values = (ctypes.c_void_p * 2)(ctypes.cast(log, ctypes.c_void_p), ctypes.c_void_p(4096))
        try:
            self.check("cuModuleLoadDataEx", ctypes.byref(module), ctypes.c_char_p(ptx.encode()), 2, options, values)
        except CudaError as error:
            raise CudaError(f"{error}: {log.value.decode(errors='replace')[:300]}") from error
        self.check("cuModuleGetFunction", ctypes.byref(function), module, b"k")
        arguments = (ctypes.c_void_p * len(pointers))(*(ctypes.addressof(p) for p in pointers))
        self.check("cuLaunchKernel", function, 1, 1, 1, forms.THREADS, 1, 1, 0, None, arguments, None)
        self.check("cuCtxSynchronize")
        self.check("cuModuleUnload", module)


def main() -> None:
    driver = Driver()
    cases = forms.cases()
    names = sorted({name for case in cases for name in case.inputs})
    pools = {name: forms.pool(name) for name in names}
    device = {}
    for name, data in pools.items():
        device[name] = driver.allocate(len(data))
        driver.check("cuMemcpyHtoD_v2", device[name], data, ctypes.c_size_t(len(data)))
    recorded, refused = [], 0
    for case in cases:
        size = case.result_bytes * forms.THREADS
        target = driver.allocate(size)
        try:
            driver.run(case.ptx, [*(device[name] for name in case.inputs), target])
        except CudaError as error:
            refused += 1
            print(f"refused: {case.name}: {error}", file=sys.stderr)
            continue
        out = ctypes.create_string_buffer(size)
        driver.check("cuMemcpyDtoH_v2", out, target, ctypes.c_size_t(size))
        driver.check("cuMemFree_v2", target)
        recorded.append(
            {
                "name": case.name,
                "ptx": case.ptx,
                "inputs": case.inputs,
                "bytes": case.result_bytes,
                "check": case.check,
                "element": case.element,
                "answers": out.raw.hex(),
            }
        )
    document = {
        "device": driver.name,
        "driver": driver.version,
        "pools": {n: d.hex() for n, d in pools.items()},
        "cases": recorded,
    }
    with open(sys.argv[1], "w", encoding="ascii") as file:
        json.dump(document, file, indent=0)
        file.write("\n")
    print(f"{driver.name}: {len(recorded)} cases recorded, {refused} refused")


if __name__ == "__main__":
    main()
