"""How much memory a launch takes besides its tensors."""

from __future__ import annotations

import re
from pathlib import Path

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


def test_a_launch_takes_at_most_three_times_its_tensors_and_200_mib(daemon: Daemon) -> None:
    session = Session(daemon)
    try:
        kernel = session.compile(WIDE, "ptx", metadata_json=metadata("wide", num_warps=32)).kernel
        elements = 1 << 24
        tensor = session.allocate("int32", elements).tensor
        session.launch(kernel, [elements // 1024], tensor)
        peak = peak_bytes(session.info().executor_pid)
        assert peak <= 3 * elements * 4 + (200 << 20), f"{peak >> 20} MiB"
        assert peak > elements * 4, "the tensor's pages belong to the peak: it was not measured"
    finally:
        session.close()
