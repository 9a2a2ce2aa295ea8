"""The toolchain's own stages, called in a loop by one Python: the baseline of a first compile.

Run with a toolchain's Python. Each line on stdin is "FILE KERNEL_NAME LAST_LEVEL [OPTIONS]" (JSON); the answer
is the milliseconds from the file's text to that level's artifact, parsing included, in a process that has compiled
before.
"""

import json
import sys
import time
from pathlib import Path

import triton
from triton._C.libtriton import ir
from triton.backends.compiler import GPUTarget
from triton.compiler.compiler import make_backend

target = GPUTarget("cuda", 80, 32)
backend = make_backend(target)


def compile_once(text: str, last: str, asked: dict) -> float:
    path = Path(f"/tmp/trun-stages-{id(text)}.ttir")
    path.write_text(text)
    try:
        start = time.perf_counter()
        options = backend.parse_options(asked)
        context = ir.context()
        ir.load_dialects(context)
        backend.load_dialects(context)
        module = ir.parse_mlir_module(str(path), context)
        module.context = context
        stages: dict = {}
        try:
            backend.add_stages(stages, options, triton.compiler.compiler.Language.TRITON)
        except (AttributeError, TypeError):
            backend.add_stages(stages, options)
        metadata = {"target": target, **options.__dict__}
        for level, stage in stages.items():
            module = stage(module, metadata)
            if level == last:
                break
        return (time.perf_counter() - start) * 1e3
    finally:
        path.unlink()


for line in sys.stdin:
    file, nonce, last, *asked = line.split(maxsplit=3)
    text = Path(file).read_text().replace(f"@{Path(file).stem}(", f"@{nonce}(")
    print(compile_once(text, last, json.loads(asked[0]) if asked else {}), flush=True)
