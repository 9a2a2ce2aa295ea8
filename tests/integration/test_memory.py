"""How much memory a launch takes besides its tensors."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

import pytest
from daemon import Daemon, Session
from kernels import metadata, ptx

# out[i] = i for 2^24 threads, 1024 a program.
WIDE = ptx(
    "wide",
    "  .param .u64 out",
    """  .reg .b32 %r<5>;
  .reg .b64 %rd<4>;
  ld.param.u64 %rd1, [out];
  mov.u32 %r1, %ctaid.x;
  mov.u32 %r2, %tid.x;
  mad.lo.u32 %r3, %r1, 1024, %r2;
  mul.wide.u32 %rd2, %r3, 4;
  add.s64 %rd3, %rd1, %rd2;
  st.global.b32 [%rd3], %r3;
  ret;""",
).replace(".reqntid 32,", ".reqntid 1024,")


def peak_bytes(pid: int) -> int:
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found
    return int(found[1]) * 1024


KERNELS = Path(__file__).resolve().parents[2] / "server/device/emulator/testdata/ptx"


@dataclass
class Launch:
    """`tensors`: dtype and elements of each; `scalars` come behind them."""

    kernel: str
    grid: list[int]
    tensors: list[tuple[str, int]]
    scalars: list[int]
    checks: tuple[str, ...] = ()


ALL = ("uninitialized", "races", "async")
SIZE = {"float16": 2, "float32": 4, "int32": 4}

# What takes memory besides tensors: shared memory and registers of large programs, many programs resident at once,
# the order that atomics ask for, and the shadows of the checks.
LAUNCHES = (
    Launch("wide", [1 << 14], [("int32", 1 << 24)], []),
    Launch(
        "matmul_fp16_pipelined",
        [8, 8],
        [("float16", 512 * 512), ("float16", 512 * 512), ("float32", 512 * 512)],
        [512] * 6,
    ),
    Launch("atomic_sum", [1 << 14], [("float32", 1 << 22), ("float32", 1)], [1 << 22]),
    Launch("histogram", [1 << 12], [("int32", 1 << 20), ("int32", 8)], [1 << 20]),
    Launch("grid_barrier", [256], [("int32", 1), ("int32", 512)], [256]),
    Launch("attention", [16, 4], [("float16", 4 * 1024 * 64)] * 4, [1024]),
    Launch(
        "matmul_fp16_pipelined",
        [2, 2],
        [("float16", 128 * 128), ("float16", 128 * 128), ("float32", 128 * 128)],
        [128] * 6,
        ALL,
    ),
    Launch("atomic_sum", [1 << 10], [("float32", 1 << 18), ("float32", 1)], [1 << 18], ALL),
)


def compiled(session: Session, name: str) -> str:
    if name == "wide":
        return session.compile(WIDE, "ptx", metadata_json=metadata("wide", num_warps=32)).kernel
    about = json.loads((KERNELS / f"{name}.sm80.json").read_text())
    text = (KERNELS / f"{name}.sm80.ptx").read_text()
    fields = metadata(about["name"], shared=about["shared"], num_warps=about["num_warps"])
    return session.compile(text, "ptx", metadata_json=fields).kernel


@pytest.mark.parametrize("case", LAUNCHES, ids=lambda case: case.kernel + ("-checked" if case.checks else ""))
def test_a_launch_takes_at_most_three_times_its_tensors_and_200_mib(daemon: Daemon, case: Launch) -> None:
    session = Session(daemon)  # and with it an executor, whose peak is this launch's
    try:
        kernel = compiled(session, case.kernel)
        arguments: list[object] = [session.allocate(dtype, elements).tensor for dtype, elements in case.tensors]
        for tensor, (dtype, elements) in zip(arguments, case.tensors, strict=True):
            session.write(str(tensor), bytes(elements * SIZE[dtype]))
        scalars: list[object] = list(case.scalars)
        if case.kernel == "attention":
            scalars.insert(0, 0.125)
        session.launch(kernel, case.grid, *arguments, *scalars, checks=case.checks)
        peak = peak_bytes(session.info().executor_pid)
        tensors = sum(elements * SIZE[dtype] for dtype, elements in case.tensors)
        assert peak <= 3 * tensors + (200 << 20), f"{peak >> 20} MiB"
        assert peak > tensors, "the tensors' pages belong to the peak: it was not measured"
    finally:
        session.close()
