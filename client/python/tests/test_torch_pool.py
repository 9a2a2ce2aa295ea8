"""The pool that torch's allocations come from with placement="daemon", on a torch that only notes what it is asked."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import types
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from trun.triton._segments import Segments, TorchPool


class FakeTorch:
    """Notes calls; CUDA starts with start_cuda(), which runs what was put off until then."""

    __version__ = "9.9"
    uint8 = "uint8"

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.put_off: list[Callable[[], None]] = []
        self._C = types.SimpleNamespace(_cuda_beginAllocateCurrentThreadToPool=None)
        memory = types.SimpleNamespace(CUDAPluggableAllocator=self._allocator)
        self.cuda = types.SimpleNamespace(
            _lazy_call=self.put_off.append, memory=memory, MemPool=lambda _: "pool", use_mem_pool=self._use
        )

    def start_cuda(self) -> None:
        for call in self.put_off:
            call()

    def _allocator(self, path: str, allocate: str, free: str) -> Any:
        self.calls.append(f"{path} {allocate} {free}")
        return types.SimpleNamespace(allocator=lambda: None)

    @contextlib.contextmanager
    def _use(self, pool: str, device: int) -> Iterator[None]:
        self.calls.append(f"enter {pool} {device}")
        yield
        self.calls.append("leave")

    def device(self, kind: str, index: int) -> str:
        return f"{kind}:{index}"

    def empty(self, count: int, **options: Any) -> None:
        self.calls.append(f"allocate on {options['device']}")


@pytest.fixture
def torch(monkeypatch: pytest.MonkeyPatch) -> FakeTorch:
    fake = FakeTorch()
    monkeypatch.setitem(sys.modules, "torch", fake)
    return fake


def make_pool(torch: FakeTorch) -> TorchPool:
    native = types.ModuleType("native")
    native.__file__ = "native.so"
    native.open_segments = lambda device: torch.calls.append(f"open {device}")  # type: ignore[attr-defined]
    return TorchPool(native)


ENTERED = ["open 0", "native.so trun_segment_allocate trun_segment_free", "enter pool 0"]


def test_a_torch_without_pools_of_a_thread_is_left_alone_and_the_reason_is_told(torch: FakeTorch) -> None:
    del torch._C._cuda_beginAllocateCurrentThreadToPool
    pool = make_pool(torch)
    pool.start()
    pool.settle()
    assert "torch 9.9 has no pool" in pool.reason
    assert (torch.calls, torch.put_off) == ([], [])


def test_nothing_is_done_before_cuda_starts_or_after_the_end(torch: FakeTorch) -> None:
    early, late = make_pool(torch), make_pool(torch)
    early.start()
    late.start()
    early.settle()
    early.stop()
    assert torch.calls == []
    torch.start_cuda()
    assert torch.calls == ENTERED, "the one that was stopped does not begin"
    late.stop()
    late.settle()
    assert torch.calls == [*ENTERED, "leave"]


def test_the_pool_is_left_for_an_allocation_by_its_own_thread_only(torch: FakeTorch) -> None:
    pool = make_pool(torch)
    pool.start()
    torch.start_cuda()
    other = threading.Thread(target=pool.settle)
    other.start()
    other.join()
    assert torch.calls == ENTERED
    pool.settle()
    assert torch.calls == [*ENTERED, "leave", "allocate on cuda:0", "enter pool 0"]


def test_segments_that_are_gone_and_made_again_are_others(tmp_path: Any) -> None:
    def descriptor() -> int:
        return os.open(tmp_path, os.O_RDONLY)

    native = types.ModuleType("native")
    changes: list[Any] = [([], [(0x1000, 0x100, descriptor())]), ([], []), ([0x1000], [(0x1000, 0x200, descriptor())])]
    native.segment_changes = lambda: changes.pop(0)  # type: ignore[attr-defined]
    segments = Segments(native)
    assert segments.holding(0x1000) is None
    first = segments.refresh()
    known = segments.holding(0x10FF)
    assert known is not None and segments.holding(0x1100) is None and segments.holding(0xFFF) is None
    assert segments.refresh() == first
    assert segments.refresh() != first
    again = segments.holding(0x11FF)
    assert again is not None and again is not known and segments.live()[1] == {0x1000: again}
    os.close(again.descriptor)
