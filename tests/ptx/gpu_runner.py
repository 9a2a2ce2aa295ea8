"""Runs PTX on the first GPU: the requests and answers of ptx_runner.cc's "run", by the driver's own compiler.

Needs the NVIDIA driver and nothing else. A request may say "optimise": 0 … 4, the compiler's level (4 without it).
{"op": "device"} → {"device", "driver"}. After an error that the context may not survive the process ends: "ends".
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
from pathlib import Path
from typing import Any

from record import CudaError, Driver

JIT_ERROR_LOG, JIT_ERROR_LOG_BYTES, JIT_LEVEL = 5, 6, 7
COMPILE_ERRORS = ("cuModuleLoadDataEx", "cuModuleGetFunction")


class Gpu:
    """Memory that is kept between requests, so that a request costs a compile and a launch."""

    def __init__(self) -> None:
        self.driver = Driver()
        self.kept: list[tuple[int, ctypes.c_uint64]] = []

    def memory(self, index: int, size: int) -> ctypes.c_uint64:
        while len(self.kept) <= index:
            self.kept.append((1 << 20, self.driver.allocate(1 << 20)))
        if self.kept[index][0] < size:
            self.driver.check("cuMemFree_v2", self.kept[index][1])
            self.kept[index] = (size, self.driver.allocate(size))
        return self.kept[index][1]

    def run(self, request: dict[str, Any]) -> dict[str, Any]:
        check = self.driver.check
        module, function = ctypes.c_void_p(), ctypes.c_void_p()
        log = ctypes.create_string_buffer(4096)
        options = (ctypes.c_int * 3)(JIT_ERROR_LOG, JIT_ERROR_LOG_BYTES, JIT_LEVEL)
        values = (ctypes.c_void_p * 3)(ctypes.cast(log, ctypes.c_void_p), 4096, request.get("optimise", 4))
        text = Path(request["ptx"]).read_bytes()
        try:
            check("cuModuleLoadDataEx", ctypes.byref(module), ctypes.c_char_p(text), 3, options, values)
        except CudaError as error:
            raise CudaError(f"{error}: {log.value.decode(errors='replace')[:600]}") from error
        try:
            check("cuModuleGetFunction", ctypes.byref(function), module, request.get("kernel", "k").encode())
            pointers = []
            for index, buffer in enumerate(request["buffers"]):
                pointer = self.memory(index, buffer["bytes"])
                content = Path(buffer["file"]).read_bytes()
                check("cuMemcpyHtoD_v2", pointer, content, ctypes.c_size_t(buffer["bytes"]))
                pointers.append(pointer)
            arguments = (ctypes.c_void_p * len(pointers))(*(ctypes.addressof(p) for p in pointers))
            check("cuLaunchKernel", function, *request["grid"], *request["block"], 0, None, arguments, None)
            check("cuCtxSynchronize")
            for index, buffer in enumerate(request["buffers"]):
                if buffer.get("input"):
                    continue
                out = ctypes.create_string_buffer(buffer["bytes"])
                check("cuMemcpyDtoH_v2", out, pointers[index], ctypes.c_size_t(buffer["bytes"]))
                Path(buffer["file"]).write_bytes(out.raw)
        finally:
            self.driver.lib.cuModuleUnload(module)
        return {}


def main() -> None:
    # Every program is another one: the driver's cache on the disk would only cost.
    os.environ["CUDA_CACHE_DISABLE"] = "1"
    gpu = Gpu()
    for line in sys.stdin:
        request = json.loads(line)
        answer, lost = {}, False
        if request["op"] == "device":
            answer = {"device": gpu.driver.name, "driver": gpu.driver.version}
        else:
            try:
                answer = gpu.run(request)
            except CudaError as error:
                lost = not str(error).startswith(COMPILE_ERRORS)
                answer = {"error": str(error), "ends": lost}
        print(json.dumps(answer), flush=True)
        if lost:
            return


if __name__ == "__main__":
    main()
