"""Runs the programs of programs.py on the first GPU and writes what it answered.

usage: python record_programs.py OUT.xz
Needs the NVIDIA driver (its own compiler takes the PTX) and nothing else. Programs run in a process of their own, so
that one that ends its context costs its own answer only; what was refused or failed is listed on stderr.
"""

from __future__ import annotations

import ctypes
import sys
import time

import answers
import memory_forms
from programs import all_programs
from record import CudaError, Driver


def run(driver: Driver, program: memory_forms.Program, inputs: list[ctypes.c_uint64], target: ctypes.c_uint64) -> bytes:
    module, function = ctypes.c_void_p(), ctypes.c_void_p()
    log = ctypes.create_string_buffer(4096)
    options = (ctypes.c_int * 2)(5, 6)  # CU_JIT_ERROR_LOG_BUFFER and its size
    values = (ctypes.c_void_p * 2)(ctypes.cast(log, ctypes.c_void_p), ctypes.c_void_p(4096))
    try:
        driver.check(
            "cuModuleLoadDataEx", ctypes.byref(module), ctypes.c_char_p(program.ptx.encode()), 2, options, values
        )
    except CudaError as error:
        raise CudaError(f"{error}: {log.value.decode(errors='replace')[:300]}") from error
    driver.check("cuModuleGetFunction", ctypes.byref(function), module, b"k")
    pointers = [*inputs, target]
    arguments = (ctypes.c_void_p * len(pointers))(*(ctypes.addressof(p) for p in pointers))
    first = memory_forms.data(program.start) if program.start else bytes(program.answer_bytes)
    first = first[: program.answer_bytes].ljust(program.answer_bytes, b"\0")
    driver.check("cuMemcpyHtoD_v2", target, first, ctypes.c_size_t(program.answer_bytes))
    driver.check(
        "cuLaunchKernel",
        function,
        int(program.check.get("grid", 1)),
        1,
        1,
        program.threads,
        1,
        1,
        0,
        None,
        arguments,
        None,
    )
    driver.check("cuCtxSynchronize")
    out = ctypes.create_string_buffer(program.answer_bytes)
    driver.check("cuMemcpyDtoH_v2", out, target, ctypes.c_size_t(program.answer_bytes))
    driver.check("cuModuleUnload", module)
    return out.raw


def child(start: int) -> None:
    """Writes "index hex" lines from `start` on; ends at the first program that fails."""
    driver = Driver()
    print(f"# {driver.name} {driver.version}", flush=True)
    device: dict[str, ctypes.c_uint64] = {}
    target = driver.allocate(1 << 20)
    for index, program in enumerate(all_programs()):
        if index < start:
            continue
        for name in program.inputs:
            if name not in device:
                content = memory_forms.data(name)
                device[name] = driver.allocate(len(content))
                driver.check("cuMemcpyHtoD_v2", device[name], content, ctypes.c_size_t(len(content)))
        try:
            print(index, run(driver, program, [device[name] for name in program.inputs], target).hex(), flush=True)
        except CudaError as error:
            print(index, "failed", str(error).replace("\n", " "), flush=True)
            return


def main() -> None:
    if len(sys.argv) > 2:
        child(int(sys.argv[2]))
        return
    import subprocess

    programs, recorded, at, title, began = all_programs(), [], 0, "", time.monotonic()
    while at < len(programs):
        process = subprocess.Popen([sys.executable, __file__, sys.argv[1], str(at)], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("#"):
                title = line[2:].strip()
                continue
            index, word, *rest = line.split(" ", 2)
            at = int(index) + 1
            if word == "failed":
                print(f"failed: {programs[int(index)].name}: {rest[0].strip()}", file=sys.stderr)
            else:
                recorded.append((programs[int(index)], bytes.fromhex(word.strip())))
        if process.wait() != 0:
            print(f"a process ended with {process.returncode} at {programs[at].name}", file=sys.stderr)
            at += 1
    name, version = title.rsplit(" ", 1)
    answers.write(sys.argv[1], name, int(version), recorded)
    print(f"{name}, driver {version}: {len(recorded)} of {len(programs)} programs in {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
