"""What is true of the placement "daemon" alone, one case each: python -m trun.triton --placement daemon THIS_FILE

Kernels run in the daemon's executor, on torch's memory. Prints "ok" when every case holds, and a launch's time.
"""

from __future__ import annotations

import contextlib
import gc
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import torch
import triton
import triton.language as tl
import trun.triton
from trun.errors import IllegalAddressError, TrunError

SEGMENTS = range(0x5000_0000_0000, 0x6000_0000_0000)
CASES: list[Callable[[], None]] = []


def case(function: Callable[[], None]) -> Callable[[], None]:
    CASES.append(function)
    return function


@triton.jit
def add_kernel(x, y, out, n, BLOCK: tl.constexpr):
    offset = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = offset < n
    tl.store(out + offset, tl.load(x + offset, mask=mask) + tl.load(y + offset, mask=mask), mask=mask)


@triton.jit
def follow_kernel(table, out, BLOCK: tl.constexpr):
    row = tl.load(table + tl.program_id(0)).to(tl.pointer_type(tl.float32))
    offset = tl.arange(0, BLOCK)
    tl.store(out + tl.program_id(0) * BLOCK + offset, tl.load(row + offset))


@triton.jit
def stray_kernel(x, distance):
    tl.store(x + distance, 1.0)


@triton.autotune(
    [triton.Config({"BM": 32, "BN": 32}, num_warps=4), triton.Config({"BM": 64, "BN": 64}, num_warps=4)],
    key=["M", "N", "K"],
)
@triton.jit
def matmul_kernel(a, b, c, M, N, K, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr):
    row = tl.program_id(0) * BM + tl.arange(0, BM)
    column = tl.program_id(1) * BN + tl.arange(0, BN)
    inner = tl.arange(0, BK)
    total = tl.zeros((BM, BN), tl.float32)
    for k in range(0, K, BK):
        left = tl.load(a + row[:, None] * K + (k + inner)[None, :])
        total = tl.dot(left, tl.load(b + (k + inner)[:, None] * N + column[None, :]), total)
    tl.store(c + row[:, None] * N + column[None, :], total)


def cuda(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, device="cuda")


def add(x: torch.Tensor, y: torch.Tensor, out: torch.Tensor | None = None) -> torch.Tensor:
    out = torch.empty_like(x) if out is None else out
    add_kernel[(triton.cdiv(x.numel(), 1024),)](x, y, out, x.numel(), BLOCK=1024)
    return out


def shared(tensor: torch.Tensor) -> bool:
    return tensor.data_ptr() in SEGMENTS


def in_a_thread(make: Callable[[], torch.Tensor]) -> torch.Tensor:
    """Not the thread whose allocations come from segments."""
    made: list[torch.Tensor] = []
    thread = threading.Thread(target=lambda: made.append(make()))
    thread.start()
    thread.join()
    return made[0]


def expect(kind: type[BaseException], says: str, call: Callable[[], object], reason: str = "") -> None:
    try:
        call()
    except kind as error:
        assert says in str(error), f"{type(error).__name__}: {error}"
        assert not reason or getattr(error, "reason", "") == reason, error
        return
    raise AssertionError(f"nothing was raised; expected one that says {says!r}")


@case
def another_process_launches() -> None:
    x = cuda(100_000)
    assert shared(x), hex(x.data_ptr())
    torch.testing.assert_close(add(x, x), x + x, rtol=0, atol=0)
    assert trun.triton.launcher() == "daemon"
    known = session_info()
    assert known.executor_pid not in (0, os.getpid()) and known.device.startswith("cuda"), known


def session_info() -> Any:
    from trun.v1 import session_pb2

    session = trun.triton.session()
    listed = session._call("SessionService.ListSessions", session_pb2.ListSessionsRequest()).sessions
    return next(info for info in listed if info.session == session.id)


@case
def a_tuned_matrix_product_is_right() -> None:
    a, b = cuda(256, 512).half(), cuda(512, 192).half()
    c = torch.empty(256, 192, device="cuda")
    matmul_kernel[lambda meta: (256 // meta["BM"], 192 // meta["BN"])](a, b, c, 256, 192, 512, BK=32)
    torch.testing.assert_close(c, a.float() @ b.float(), rtol=1e-3, atol=1e-2)
    assert matmul_kernel.best_config.kwargs["BM"] in (32, 64)


@case
def addresses_in_memory_mean_the_same() -> None:
    rows = [cuda(64) for _ in range(4)] + [cuda(40 << 20)]  # of several segments
    table = torch.tensor([row.data_ptr() for row in rows], device="cuda")
    out = torch.empty(5, 64, device="cuda")
    follow_kernel[(5,)](table, out, BLOCK=64)
    assert torch.equal(out, torch.stack([row[:64] for row in rows]))


@case
def a_launch_begins_after_what_its_stream_has_and_ends_before_what_follows() -> None:
    for stream in (torch.cuda.current_stream(), torch.cuda.Stream()):
        with torch.cuda.stream(stream):
            x, out = torch.zeros(1 << 20, device="cuda"), torch.zeros(1 << 20, device="cuda")
            torch.cuda._sleep(400_000_000)  # a fifth of a second or so
            x.fill_(2)
            add(x, x, out)
            y = out * 3  # nothing waits in between
            x.fill_(5)
        stream.synchronize()
        assert (y == 12).all() and (out == 4).all(), (y[:4], out[:4])


@case
def other_streams_are_not_waited_for() -> None:
    x, side, done = cuda(1000), torch.cuda.Stream(), torch.cuda.Event()
    add(x, x)
    torch.cuda.synchronize()
    with torch.cuda.stream(side):
        torch.cuda._sleep(2_000_000_000)
        done.record()
    add(x, x)
    assert not done.query(), "the launch waited for another stream"
    side.synchronize()


@case
def memory_of_other_allocators_is_imported() -> None:
    elsewhere = in_a_thread(lambda: cuda(3_000_000))
    assert not shared(elsewhere)
    out = add(elsewhere, elsewhere)
    torch.testing.assert_close(out, elsewhere * 2, rtol=0, atol=0)
    add(out, out, elsewhere)
    torch.testing.assert_close(elsewhere, out * 2, rtol=0, atol=0)
    x = cuda(1000).requires_grad_()
    (x * x).sum().backward()  # by a thread of torch's own
    torch.testing.assert_close(add(x.grad, x.detach()), x.detach() * 3)
    for _ in range(4):  # freed, and made again in its place
        del elsewhere
        torch.cuda.synchronize()
        gc.collect()
        torch.cuda.empty_cache()
        elsewhere = in_a_thread(lambda: cuda(3_000_000))
        torch.testing.assert_close(add(elsewhere, elsewhere), elsewhere * 2, rtol=0, atol=0)


@case
def a_fault_leaves_the_process_its_context_and_its_tensors() -> None:
    inside, outside = cuda(5000), in_a_thread(lambda: cuda(5000))
    before = inside.clone(), outside.clone()
    restarts = session_info().executor_restarts
    for tensor in (inside, outside):
        expect(IllegalAddressError, "", lambda t=tensor: stray_kernel[(1,)](t, 1 << 44))
        torch.cuda.synchronize()  # raises where the context is lost
        assert torch.equal(inside, before[0]) and torch.equal(outside, before[1])
        torch.testing.assert_close(add(inside, outside), inside + outside, rtol=0, atol=0)
    assert session_info().executor_restarts >= restarts + 2
    addresses_in_memory_mean_the_same()


@contextlib.contextmanager
def expandable() -> Iterator[None]:
    settings = getattr(torch._C, "_accelerator_setAllocatorSettings", None) or torch.cuda.memory._set_allocator_settings
    settings("expandable_segments:True")
    try:
        yield
    finally:
        settings("expandable_segments:False")


@case
def what_cannot_work_is_refused_with_the_reason() -> None:
    x = cuda(1000)
    expect(ValueError, "cpu tensor?", lambda: add(torch.rand(10), torch.rand(10)), "ARGUMENT")
    expect(ValueError, "pinned memory of the host", lambda: add(torch.rand(1000).pin_memory(), x), "ARGUMENT")
    with expandable():
        stretched = in_a_thread(lambda: cuda(64 << 20))
    expect(TrunError, "expandable segments", lambda: add(stretched, stretched), "UNSUPPORTED_TARGET")
    graph = torch.cuda.CUDAGraph()
    torch.cuda.synchronize()
    with torch.cuda.graph(graph):
        y = x * 2
        expect(TrunError, "captured into a CUDA graph", lambda: add(x, x, y), "UNSUPPORTED_TARGET")
    graph.replay()
    torch.testing.assert_close(y, x * 2)
    torch.testing.assert_close(add(x, x), x * 2)


@case
def graphs_of_torch_alone_have_memory_of_their_own() -> None:
    x = torch.ones(1000, device="cuda")
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        y = x * 2
    others = [torch.full((1000,), 7.0, device="cuda") for _ in range(50)]
    graph.replay()
    assert (y == 2).all() and all((other == 7).all() for other in others)
    torch.testing.assert_close(add(y, y), y * 2)


@case
def memory_that_other_streams_used_comes_back() -> None:
    def active() -> int:
        return int(torch.cuda.memory_stats()["active_bytes.all.current"]) >> 20

    side, x = torch.cuda.Stream(), cuda(1000)
    before = active()
    for _ in range(5):
        tensor = cuda(8 << 20)
        tensor.record_stream(side)
        del tensor
    torch.cuda.synchronize()
    for _ in range(600):
        add(x, x)
    assert shared(cuda(1000)), "the pool is in use again"
    assert active() < before + 32, (before, active())


def microseconds_of_a_launch() -> float:
    x, out = cuda(256), torch.empty(256, device="cuda")
    rounds = []
    for _ in range(5):
        start = time.perf_counter()
        for _ in range(100):
            add_kernel[(1,)](x, x, out, 256, BLOCK=256)
        rounds.append((time.perf_counter() - start) / 100)
    return min(rounds) * 1e6


def main() -> int:
    failed = []
    for function in CASES:
        try:
            function()
            print(f"holds: {function.__name__}", flush=True)
        except Exception:
            failed.append(function.__name__)
            print(f"FAILED {function.__name__}:\n{traceback.format_exc(limit=-4)}", flush=True)
    if failed:
        print(f"failed: {', '.join(failed)}")
        return 1
    print(f"ok: {len(CASES)} cases; {microseconds_of_a_launch():.0f} µs from a launch's call to its end")
    return 0


if __name__ == "__main__":
    sys.exit(main())
