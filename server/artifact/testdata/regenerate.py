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


@triton.jit
def scratched(p, out, n):
    """A tensor descriptor made on the device: 128 bytes of global scratch on sm_90."""
    made = tl.make_tensor_descriptor(p, [n, 64], [64, 1], [64, 64])
    offsets = tl.arange(0, 64)[:, None] * 64 + tl.arange(0, 64)[None, :]
    tl.store(out + offsets, made.load([tl.program_id(0) * 64, 0]))


@triton.jit
def staged(a, b, out, steps, WARP_SPECIALIZE: tl.constexpr):
    """A pipeline of dots: more than 48 KiB of shared memory; on sm_100 more warps than were asked for."""
    acc = tl.zeros([128, 128], tl.float32)
    for step in tl.range(0, steps, warp_specialize=WARP_SPECIALIZE):
        acc = tl.dot(a.load([0, step * 64]), b.load([step * 64, 0]), acc)
    out.store([0, 0], acc.to(tl.float16))


HERE = pathlib.Path(__file__).resolve().parent
ALL_LEVELS = ("ttir", "ttgir", "llir", "ptx", "cubin")


def write(source: object, arch: int, name: str = "", levels: tuple[str, ...] = ALL_LEVELS, **options: object) -> None:
    kernel = triton.compile(source, target=GPUTarget("cuda", arch, 32), options={"num_warps": 8, **options})
    name = name or kernel.metadata.name
    here = HERE
    folder = here / triton.__version__
    folder.mkdir(exist_ok=True)
    for level in levels:
        content = kernel.asm[level] if level in kernel.asm else pathlib.Path(str(source)).read_text()
        if isinstance(content, str):
            content = content.replace(f"{here}/", "").encode()
        (folder / f"{name}.{level}").write_bytes(content)
    metadata = kernel.metadata._asdict()
    metadata["target"] = vars(metadata["target"])
    metadata["extern_libs"] = [[library, os.path.basename(path)] for library, path in metadata["extern_libs"]]
    (folder / f"{name}.json").write_text(json.dumps(metadata, sort_keys=True) + "\n")


VERSION = tuple(int(part) for part in triton.__version__.split(".")[:2])
FEW = ("ttgir", "ptx")
if VERSION < (3, 4):
    write(str(HERE / "mixed.ttir"), 80)
else:
    arguments = {"p": "*fp32", "q": "*fp32", "flag": "u1", "h": "fp16", "l": "i64", "n": "i8", "BLOCK": "constexpr"}
    divisible = {(0,): [["tt.divisibility", 16]], (4,): [["tt.divisibility", 16]]}
    write(ASTSource(fn=mixed, signature=arguments, constexprs={"BLOCK": 256}, attrs=divisible), 80)
    arguments = {"desc": "tensordesc<fp16[64, 64]>", "out": "*fp16", "n": "i32"}
    write(ASTSource(fn=described, signature=arguments, constexprs={}), 90)
    arguments = {"p": "*fp16", "out": "*fp16", "n": "i32"}
    divisible = {(0,): [["tt.divisibility", 16]], (1,): [["tt.divisibility", 16]]}
    write(ASTSource(fn=scratched, signature=arguments, constexprs={}, attrs=divisible), 90, levels=FEW)
    matrices = {
        name: f"tensordesc<fp16[{shape}]>" for name, shape in (("a", "128, 64"), ("b", "64, 128"), ("out", "128, 128"))
    }
    arguments = {**matrices, "steps": "i32", "WARP_SPECIALIZE": "constexpr"}
    for name, arch, specialized in (("staged", 90, False), ("specialized", 100, True)):
        source = ASTSource(fn=staged, signature=arguments, constexprs={"WARP_SPECIALIZE": specialized})
        write(source, arch, name, levels=("ttgir",), num_stages=3, num_warps=4)
# What a launch must be told beside arguments; each version from the one on that knows it.
clusters = {"cluster_dims": (2, 1, 1)} if VERSION < (3, 6) else {}
write(str(HERE / "clustered.ttir"), 90, "clustered", FEW, num_ctas=2, **clusters)
launch = {"launch_cooperative_grid": True} if VERSION >= (3, 3) else {}
launch |= {"launch_pdl": True} if VERSION >= (3, 4) else {}
if launch:
    write(str(HERE / "clustered.ttir"), 90, "cooperative", FEW, **launch)
