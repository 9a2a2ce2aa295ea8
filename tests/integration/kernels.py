"""Small kernels as text: PTX by hand for faults that no compiler makes, and the shared TTIR examples."""

from __future__ import annotations

from pathlib import Path

EXAMPLES = Path(__file__).resolve().parents[2] / "examples/kernels"

METADATA = '{"name": "%s", "num_warps": 1, "shared": 0, "num_ctas": 1, "target": {"backend": "cuda", "arch": 80, "warp_size": 32}}'  # noqa: E501


def metadata(name: str, /, **changes: object) -> str:
    import json

    fields = json.loads(METADATA % name)
    for key, value in changes.items():
        if value is None:
            fields.pop(key)
        else:
            fields[key] = value
    return json.dumps(fields)


def ptx(name: str, params: str, body: str, declarations: str = "") -> str:
    return f""".version 8.0
.target sm_80
.address_size 64
{declarations}
.visible .entry {name}(
{params}
)
.reqntid 32, 1, 1
{{
{body}
}}
"""


# Each thread stores one word at out[index]: thread 31 stores at out[31 + skip].
STORE = ptx(
    "store",
    "  .param .u64 out,\n  .param .u32 skip",
    """  .reg .pred %p<2>;
  .reg .b32 %r<5>;
  .reg .b64 %rd<4>;
  ld.param.u64 %rd1, [out];
  ld.param.u32 %r1, [skip];
  mov.u32 %r2, %tid.x;
  setp.eq.s32 %p1, %r2, 31;
  selp.b32 %r3, %r1, 0, %p1;
  add.s32 %r3, %r3, %r2;
  mul.wide.s32 %rd2, %r3, 4;
  add.s64 %rd3, %rd1, %rd2;
  st.global.b32 [%rd3], %r2;
  ret;""",
)

# As STORE, but program p begins at out[32 p]; its store is line 7 of store.py.
STORE_BLOCKS = (
    ptx(
        "store_blocks",
        "  .param .u64 out,\n  .param .u32 skip",
        """  .reg .pred %p<2>;
  .reg .b32 %r<6>;
  .reg .b64 %rd<4>;
  .loc 1 3 0
  ld.param.u64 %rd1, [out];
  ld.param.u32 %r1, [skip];
  mov.u32 %r2, %tid.x;
  mov.u32 %r4, %ctaid.x;
  setp.eq.s32 %p1, %r2, 31;
  selp.b32 %r3, %r1, 0, %p1;
  add.s32 %r3, %r3, %r2;
  mad.lo.s32 %r3, %r4, 32, %r3;
  mul.wide.s32 %rd2, %r3, 4;
  add.s64 %rd3, %rd1, %rd2;
  .loc 1 7 5
  st.global.b32 [%rd3], %r2;
  ret;""",
    ).rstrip()
    + '\n.file 1 "store.py"\n'
)

ENDLESS = ptx(
    "endless",
    "  .param .u64 flag",
    """  .reg .pred %p<2>;
  .reg .b32 %r<2>;
  .reg .b64 %rd<2>;
  ld.param.u64 %rd1, [flag];
$again:
  ld.volatile.global.b32 %r1, [%rd1];
  setp.eq.s32 %p1, %r1, 0;
  @%p1 bra $again;
  ret;""",
)

UNKNOWN_INSTRUCTION = STORE.replace("mov.u32 %r2, %tid.x;", "frobnicate.b32 %r2, %r1;")


def example(name: str) -> str:
    return (EXAMPLES / name).read_text()


def chain(operations: int) -> str:
    """TTIR that keeps the compiler busy for long."""
    lines = ["module {", "  tt.func public @k(%p: !tt.ptr<f32>) {", "    %v0 = tt.load %p : !tt.ptr<f32>"]
    for i in range(operations):
        lines.append(f"    %v{i + 1} = arith.{'mulf' if i % 2 else 'addf'} %v{i}, %v{i // 2} : f32")
    return "\n".join([*lines, f"    tt.store %p, %v{operations} : !tt.ptr<f32>", "    tt.return", "  }", "}", ""])


def source_bundle(text: str, function: str, arguments: dict[str, dict[str, object]]) -> str:
    """A kernel as Python source (docs/formats/source-bundle.md)."""
    import json

    source = {"file": "/home/user/kernel.py", "source": text, "function": function}
    return json.dumps({"format": 1, "text": source, "arguments": arguments})


SOURCE_BUNDLE = source_bundle(
    """import triton
import triton.language as tl

@triton.jit
def doubled(x_ptr, n, BLOCK: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(x_ptr + offsets, tl.load(x_ptr + offsets, mask=offsets < n) * 2, mask=offsets < n)
""",
    "doubled",
    {
        "x_ptr": {"kind": "pointer", "dtype": "f32", "divisible": True},
        "n": {"kind": "scalar", "dtype": "i32"},
        "BLOCK": {"kind": "constexpr", "value": 128},
    },
)
