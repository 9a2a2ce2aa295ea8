"""Device memory of this process that the daemon's executor maps, too, and torch's allocator that takes from it.

A segment is made by the native module, without the interpreter: torch calls it with locks of its own. What a session
has to be told of it is noticed here, by the next launch.
"""

from __future__ import annotations

import bisect
import contextlib
import ctypes
import dataclasses
import os
import threading
from types import ModuleType
from typing import Any

DEVICE = 0  # of this process: the one whose tensors live in segments, and that launches are on


@dataclasses.dataclass(frozen=True, eq=False)
class Segment:
    address: int
    nbytes: int
    descriptor: int


class Segments:
    """The live segments of this process. Thread-safe."""

    def __init__(self, native: ModuleType) -> None:
        self._native = native
        self._lock = threading.Lock()
        self._live: dict[int, Segment] = {}
        self._starts: list[int] = []
        self._changes = 0  # counts up

    def refresh(self) -> int:
        """Takes note of what torch has made and freed; a number that is another one when something has changed."""
        with self._lock:
            gone, made = self._native.segment_changes()
            for address in gone:
                os.close(self._live.pop(address).descriptor)
            for address, nbytes, descriptor in made:
                self._live[address] = Segment(address, nbytes, descriptor)
            if gone or made:
                self._starts = sorted(self._live)
                self._changes += 1
            return self._changes

    def live(self) -> tuple[int, dict[int, Segment]]:
        """The number that refresh() gave, and the segments by address."""
        with self._lock:
            return self._changes, dict(self._live)

    def holding(self, address: int) -> Segment | None:
        with self._lock:
            at = bisect.bisect_right(self._starts, address) - 1
            segment = self._live[self._starts[at]] if at >= 0 else None
        return segment if segment is not None and address < segment.address + segment.nbytes else None


class TorchPool:
    """What the thread that starts CUDA allocates with torch comes from segments, from then on."""

    def __init__(self, native: ModuleType) -> None:
        self._native = native
        self._kept: list[Any] = []
        self._pool: Any = None
        self._entered = contextlib.ExitStack()
        self._stopped = False
        self._thread = 0
        self.reason = ""  # why there is none

    def start(self) -> None:
        import torch

        if not hasattr(torch._C, "_cuda_beginAllocateCurrentThreadToPool"):
            self.reason = f"torch {torch.__version__} has no pool for the allocations of one thread"
            return
        torch.cuda._lazy_call(self._enter)

    def _enter(self) -> None:
        import torch

        if self._stopped:
            return
        self._native.open_segments(DEVICE)
        allocator = torch.cuda.memory.CUDAPluggableAllocator(
            self._native.__file__, "trun_segment_allocate", "trun_segment_free"
        )
        pool = torch.cuda.MemPool(allocator.allocator())
        # Never destroyed: its tensors may live as long as the process.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(pool))
        self._kept += [allocator, pool]
        self._pool = pool
        self._thread = threading.get_ident()
        self._entered.enter_context(torch.cuda.use_mem_pool(pool, DEVICE))

    def settle(self) -> None:
        """Lets torch take back what was freed while another stream used it (record_stream): it does not while a pool
        is in use."""
        if self._stopped or threading.get_ident() != self._thread:
            return
        import torch

        self._entered.close()
        torch.empty(1, dtype=torch.uint8, device=torch.device("cuda", DEVICE))
        self._entered.enter_context(torch.cuda.use_mem_pool(self._pool, DEVICE))

    def stop(self) -> None:
        self._stopped = True
        self._entered.close()
