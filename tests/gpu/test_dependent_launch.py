"""Programmatic dependent launch on a GPU: a kernel that lets the next one begin is overlapped by it.

Both write the GPU's own clock, and nothing else tells the time: the first when it ends, the second when it begins,
before it waits for the first one's memory.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest
from box import DEVICE
from kernels import metadata

FIRST = """.version 8.0
.target sm_90
.address_size 64
.visible .entry first(.param .u64 times)
.reqntid 32, 1, 1
{
  .reg .b64 %rd<6>; .reg .pred %p<2>;
  ld.param.u64 %rd1, [times];
  mov.u64 %rd2, %globaltimer;
  griddepcontrol.launch_dependents;
  add.s64 %rd3, %rd2, 2000000;
$spin:
  mov.u64 %rd4, %globaltimer;
  setp.lt.u64 %p1, %rd4, %rd3;
  @%p1 bra $spin;
  st.global.u64 [%rd1], %rd4;
  ret;
}
"""
SECOND = """.version 8.0
.target sm_90
.address_size 64
.visible .entry second(.param .u64 times)
.reqntid 32, 1, 1
{
  .reg .b64 %rd<6>;
  ld.param.u64 %rd1, [times];
  mov.u64 %rd2, %globaltimer;
  griddepcontrol.wait;
  ld.global.u64 %rd3, [%rd1];
  st.global.u64 [%rd1+8], %rd2;
  st.global.u64 [%rd1+16], %rd3;
  ret;
}
"""


@pytest.mark.parametrize("pdl", [True, False])
def test_dependent_launches_overlap_where_they_ask_for_it_and_only_there(on_device: Any, pdl: bool) -> None:
    if not DEVICE.startswith("cuda"):
        pytest.skip("the emulator runs one launch after the other")
    if int(on_device.target.split(":")[1]) < 90:
        pytest.skip("below sm_90 there is no such thing")
    first = on_device.load(FIRST, level="ptx", metadata=metadata("first", launch_pdl=pdl))
    second = on_device.load(SECOND, level="ptx", metadata=metadata("second", launch_pdl=pdl))
    busy = on_device.load(FIRST, level="ptx", metadata=metadata("first", launch_pdl=False))
    times, others = on_device.zeros(3, np.int64), on_device.zeros(3, np.int64)
    overlaps = []
    for _ in range(10):
        for _ in range(3):  # so that both are queued before the first can begin
            busy[1](others, wait=False)
        first[1](times, wait=False)
        second[1](times, wait=False)
        on_device.synchronize()
        ended, began, seen = times.numpy().tolist()
        assert seen == ended, "the second kernel read before the first one's memory was there"
        overlaps.append((ended - began) / 1e3)
    if os.environ.get("TRUN_SHOW_FIGURES"):
        print(f"FIGURE {'dependent' if pdl else 'plain'}_launch_overlap_us {sorted(overlaps)[5]:.1f} us")
    if pdl:
        assert sorted(overlaps)[5] > 500, f"µs by which the second began before the first ended: {overlaps}"
    else:
        assert max(overlaps) <= 0, overlaps
