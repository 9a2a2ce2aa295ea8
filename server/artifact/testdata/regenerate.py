"""Makes the golden files beside this script: every artifact of two kernels, as one version of Triton writes them.

Versions before 3.4 make theirs from mixed.ttir, written by hand: their front ends want other signatures.

Run it with the Python of each version, with no GPU and no torch:  PYTHON regenerate.py
Files go to VERSION/KERNEL.LEVEL. Paths of the machine it runs on are cut from them.
"""

import json
import os
import pathlib
import tempfile

os.environ["TRITON_CACHE_DIR"] = tempfile.mkdtemp()
os.environ["TRITON_DISABLE_LINE_INFO"] = "1"  # a cubin would carry the path of this file

import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource


@triton.jit(noinline=True)
def scaled(x, y):
    return x * y + x


@triton.jit
def mixed(p, q, flag, h, l, n, BLOCK: tl.constexpr):  # noqa: E741
    """Arguments of every kind, and a function that is not inlined."""
    offsets = tl.arange(0, BLOCK)
    x = tl.load(p + offsets, mask=offsets < n)
    if flag:
        x += scaled(tl.program_id(0), n)
    tl.store(q + offsets, tl.sum(x) + x + l.to(tl.float32) + h)


@triton.jit
def described(desc, out, n):
    """A host-made tensor descriptor: a tensor map by value on sm_90."""
    x = desc.load([0, 0])
    offsets = tl.arange(0, 64)[:, None] * 64 + tl.arange(0, 64)[None, :]
    tl.store(out + offsets, x, mask=offsets < n)


HERE = pathlib.Path(__file__).resolve().parent


def write(source: object, arch: int) -> None:
    kernel = triton.compile(source, target=GPUTarget("cuda", arch, 32), options={"num_warps": 8})
    name = kernel.metadata.name
    here = HERE
    folder = here / triton.__version__
    folder.mkdir(exist_ok=True)
    for level in ("ttir", "ttgir", "llir", "ptx", "cubin"):
        content = kernel.asm[level] if level in kernel.asm else pathlib.Path(str(source)).read_text()
        if isinstance(content, str):
            content = content.replace(f"{here}/", "").encode()
        (folder / f"{name}.{level}").write_bytes(content)
    metadata = kernel.metadata._asdict()
    metadata["target"] = vars(metadata["target"])
    metadata["extern_libs"] = [[library, os.path.basename(path)] for library, path in metadata["extern_libs"]]
    (folder / f"{name}.json").write_text(json.dumps(metadata, sort_keys=True) + "\n")


if tuple(int(part) for part in triton.__version__.split(".")[:2]) < (3, 4):
    write(str(HERE / "mixed.ttir"), 80)
else:
    arguments = {"p": "*fp32", "q": "*fp32", "flag": "u1", "h": "fp16", "l": "i64", "n": "i8", "BLOCK": "constexpr"}
    divisible = {(0,): [["tt.divisibility", 16]], (4,): [["tt.divisibility", 16]]}
    write(ASTSource(fn=mixed, signature=arguments, constexprs={"BLOCK": 256}, attrs=divisible), 80)
    arguments = {"desc": "tensordesc<fp16[64, 64]>", "out": "*fp16", "n": "i32"}
    write(ASTSource(fn=described, signature=arguments, constexprs={}), 90)
