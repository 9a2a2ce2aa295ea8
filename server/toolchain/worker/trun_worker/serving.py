"""The loop of a worker: one operation after the other."""

from __future__ import annotations

import gc
import os
import shutil
import sys
import tempfile
import traceback
from pathlib import Path

from trun_worker import children
from trun_worker.channel import CHANNEL, PROTOCOL, Channel, Log
from trun_worker.compilation import Compilation
from trun_worker.errors import CompileError
from trun_worker.options import describe_options
from trun_worker.toolchain import Toolchain

WARM_TTIR = b"""
module {
  tt.func public @warm(%p: !tt.ptr<f32> {tt.divisibility = 16 : i32}, %n: i32) {
    %r = tt.make_range {end = 256 : i32, start = 0 : i32} : tensor<256xi32>
    %m = tt.splat %n : i32 -> tensor<256xi32>
    %c = arith.cmpi slt, %r, %m : tensor<256xi32>
    %s = tt.splat %p : !tt.ptr<f32> -> tensor<256x!tt.ptr<f32>>
    %a = tt.addptr %s, %r : tensor<256x!tt.ptr<f32>>, tensor<256xi32>
    %v = tt.load %a, %c : tensor<256x!tt.ptr<f32>>
    %w = arith.addf %v, %v : tensor<256xf32>
    tt.store %a, %w, %c : tensor<256x!tt.ptr<f32>>
    tt.return
  }
}
"""


def serve(channel: Channel, toolchain: Toolchain, base: Path) -> None:
    folder = base / "request"
    count = 0
    while True:
        request, body = channel.receive()
        op = request.get("op")
        log = Log()
        folder.mkdir(exist_ok=True)
        tempfile.tempdir = str(folder)
        failed = False
        compilation: Compilation | None = None
        try:
            if op == "compile":
                compilation = Compilation(toolchain, request, body, folder, log)
                compilation.run(channel)
                children.end_with_them()
                channel.send({"op": "done"})
            elif op == "warm":
                target = {"backend": "cuda", "arch": 80, "warp_size": 32}
                warm = {"from": "ttir", "to": "cubin", "target": target, "options": {}, "file": "warm.ttir"}
                Compilation(toolchain, warm, WARM_TTIR, folder, log).run(None)
                children.end_with_them()
                channel.send({"op": "done"})
            elif op == "options":
                target = {
                    "backend": request["backend"],
                    "arch": 80 if request["backend"] == "cuda" else "gfx942",
                    "warp_size": 32 if request["backend"] == "cuda" else 64,
                }
                rows = describe_options(toolchain.backend(target))
                children.end_with_them()
                channel.send({"op": "options", "options": rows})
            else:
                raise CompileError("PROTOCOL", f"no such operation: {op}")
        except CompileError as error:
            failed = True
            children.end_with_them()
            channel.send({"op": "error", "kind": error.kind, "message": str(error), "details": error.details})
        except MemoryError:
            failed = True
            channel.send({"op": "error", "kind": "COMPILE_OUT_OF_MEMORY", "message": "no memory left", "details": {}})
        finally:
            compilation = None  # to free a module takes time, which nobody waits for here
            shutil.rmtree(folder, ignore_errors=True)
        count += 1
        if failed or count % 16 == 0:
            gc.collect()


def main() -> int:
    channel = Channel(CHANNEL)
    children.watch()
    base = Path(tempfile.gettempdir())
    try:
        toolchain = Toolchain()
    except Exception as error:
        children.end_with_them()
        message = f"import triton: {type(error).__name__}: {error}"
        channel.send({"op": "error", "kind": "TOOLCHAIN_BROKEN", "message": message, "details": {}})
        return 1
    gc.collect()
    gc.freeze()
    python = ".".join(str(n) for n in sys.version_info[:3])
    channel.send({"op": "hello", "protocol": PROTOCOL, "triton": toolchain.version, "python": python})
    try:
        serve(channel, toolchain, base)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        pass
    except Exception:
        children.end_with_them()
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)  # an orderly end writes what Triton has leaked over the reason
    return 0
