"""A torch program that knows nothing of trun: python -m trun.triton [--cpu-as-cuda] torch_program.py

Prints "ok" when every number is right, and the host's time of a launch.
"""

import concurrent.futures
import time

import torch
import triton
import triton.language as tl

DEVICE = torch.device("cuda")


@triton.jit
def add_kernel(x, y, out, n, BLOCK: tl.constexpr):
    offset = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = offset < n
    tl.store(out + offset, tl.load(x + offset, mask=mask) + tl.load(y + offset, mask=mask), mask=mask)


@triton.jit
def gather_kernel(table, out, BLOCK: tl.constexpr):
    row = tl.load(table + tl.program_id(0)).to(tl.pointer_type(tl.float32))
    offset = tl.arange(0, BLOCK)
    tl.store(out + tl.program_id(0) * BLOCK + offset, tl.load(row + offset))


def add(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    out = torch.empty_like(x)
    assert x.device == y.device == out.device
    assert x.is_cuda
    add_kernel[(triton.cdiv(x.numel(), 256),)](x, y, out, x.numel(), BLOCK=256)
    return out


def tensors_of_the_device() -> None:
    x, y = torch.rand(1000, device=DEVICE), torch.rand(1000, device="cuda")
    torch.testing.assert_close(add(x, y), x + y, rtol=0, atol=0)
    z = x.cpu()
    assert not z.is_cuda
    assert z.to("cuda").device.type == "cuda"
    assert z.cuda().data_ptr() != z.data_ptr()
    assert (x * 2).is_cuda
    assert x[3:7].is_cuda
    assert x.view(10, 100).t().is_cuda
    x += 1
    torch.testing.assert_close(add(x, y).cpu(), z + 1 + y.cpu(), rtol=0, atol=0)


def tensors_of_the_host() -> None:
    x, out = torch.rand(500), torch.empty(500)
    add_kernel[(2,)](x, x, out, 500, BLOCK=256)
    torch.testing.assert_close(out, x + x, rtol=0, atol=0)


def tensors_that_want_gradients() -> None:
    x = torch.rand(64, device=DEVICE, requires_grad=True)
    y = (x * 3).sum()
    y.backward()
    assert x.grad is not None
    torch.testing.assert_close(add(x.grad, x.detach()), x.detach() + 3)


def element_types() -> None:
    for dtype in (torch.bool, torch.bfloat16, torch.float16, torch.int64, torch.uint8):
        x = torch.ones(300, device=DEVICE).to(dtype)
        out = torch.zeros_like(x)
        add_kernel[(2,)](x, torch.zeros_like(x), out, 300, BLOCK=256)
        assert torch.equal(out, x)


def addresses_in_memory() -> None:
    rows = [torch.rand(64, device=DEVICE) for _ in range(4)]
    table = torch.tensor([row.data_ptr() for row in rows], dtype=torch.int64, device=DEVICE)
    out = torch.empty(4, 64, device=DEVICE)
    gather_kernel[(4,)](table, out, BLOCK=64)
    assert torch.equal(out, torch.stack(rows))


def streams_and_events() -> None:
    assert torch.cuda.is_available()
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    start.record()
    with torch.cuda.stream(torch.cuda.Stream()):
        add(torch.rand(10, device=DEVICE), torch.rand(10, device=DEVICE))
    end.record()
    torch.cuda.synchronize()
    assert start.elapsed_time(end) > 0
    x = torch.rand(10, device=DEVICE)
    assert triton.testing.do_bench(lambda: add(x, x), warmup=1, rep=2) > 0


@triton.autotune([triton.Config({"BLOCK": block}, num_warps=warps) for block in (256, 1024) for warps in (2, 4)], ["n"])
@triton.jit
def scale_kernel(x, out, n, factor, BLOCK: tl.constexpr):
    offset = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out + offset, tl.load(x + offset, mask=offset < n) * factor, mask=offset < n)


@triton.jit
def matmul_kernel(a, b, c, K, BLOCK: tl.constexpr):
    row, column, k = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK), tl.arange(0, BLOCK), tl.arange(0, BLOCK)
    total = tl.zeros((BLOCK, BLOCK), tl.float32)
    for start in range(0, K, BLOCK):
        left = tl.load(a + row[:, None] * K + (start + k)[None, :])
        total = tl.dot(left, tl.load(b + (start + k)[:, None] * BLOCK + column[None, :]), total)
    tl.store(c + row[:, None] * BLOCK + column[None, :], total)


def other_threads_launch() -> None:
    def work(seed: int) -> torch.Tensor:
        x = torch.full((300,), float(seed), device="cuda")
        return add(x, x)

    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        for seed, out in enumerate(pool.map(work, range(12))):
            assert out.is_cuda
            assert (out == 2 * seed).all()


def configurations_are_tuned() -> None:
    x = torch.rand(5000, device=DEVICE)
    out = torch.empty_like(x)
    scale_kernel[lambda meta: (triton.cdiv(5000, meta["BLOCK"]),)](x, out, 5000, 3.0)
    torch.testing.assert_close(out, x * 3)


def matrices_are_multiplied() -> None:
    a = torch.randn(128, 256, device=DEVICE, dtype=torch.float16)
    b = torch.randn(256, 64, device=DEVICE, dtype=torch.float16)
    c = torch.empty(128, 64, device=DEVICE)
    matmul_kernel[(2,)](a, b, c, 256, BLOCK=64)
    torch.testing.assert_close(c.cpu(), a.cpu().float() @ b.cpu().float(), rtol=1e-3, atol=1e-2)


def time_of_a_launch() -> float:
    x, out = torch.rand(256, device=DEVICE), torch.empty(256, device=DEVICE)
    rounds = []
    for _ in range(5):
        torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(200):
            add_kernel[(1,)](x, x, out, 256, BLOCK=256)
        rounds.append((time.perf_counter() - start) / 200)
        torch.cuda.synchronize()
    return min(rounds)


if __name__ == "__main__":
    tensors_of_the_device()
    if not torch.version.cuda or torch.rand(1, device="cuda").untyped_storage().device.type == "cpu":
        tensors_of_the_host()
    tensors_that_want_gradients()
    element_types()
    addresses_in_memory()
    streams_and_events()
    other_threads_launch()
    configurations_are_tuned()
    matrices_are_multiplied()
    print(f"ok: {time_of_a_launch() * 1e6:.1f} µs of the caller's time a launch")
