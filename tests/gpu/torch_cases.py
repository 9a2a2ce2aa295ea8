"""What torch programs do around their kernels, one case each: python -m trun.triton [--cpu-as-cuda] torch_cases.py

Prints "ok" when every case holds that this machine can run; a case that it cannot is named with the reason. The program
knows nothing of trun: it holds with Triton alone, too. With a case's name as argument, only that.
"""

from __future__ import annotations

import os
import subprocess
import sys
import traceback
from collections.abc import Callable
from typing import Any

import torch
import triton
import triton.language as tl

VERSION = tuple(int(part) for part in triton.__version__.split(".")[:2])
EMULATED = torch.rand(1, device="cuda").untyped_storage().device.type == "cpu"
HOPPER = torch.cuda.get_device_capability()[0] == 9
CASES: dict[str, Callable[[], None]] = {}
LEFT_OUT: dict[str, str] = {}


def case(function: Callable[[], None]) -> Callable[[], None]:
    CASES[function.__name__] = function
    return function


def where(condition: bool, reason: str) -> Callable[[Callable[[], None]], Callable[[], None]]:
    def decorate(function: Callable[[], None]) -> Callable[[], None]:
        if condition:
            return case(function)
        LEFT_OUT[function.__name__] = reason
        return function

    return decorate


on_a_gpu = where(not EMULATED, "needs a GPU")
on_hopper = where(HOPPER, "needs sm_90")


def cuda(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.rand(*shape, device="cuda").to(dtype)


@triton.jit
def add_kernel(x, y, out, n, BLOCK: tl.constexpr):
    offset = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = offset < n
    tl.store(out + offset, tl.load(x + offset, mask=mask) + tl.load(y + offset, mask=mask), mask=mask)


@triton.jit
def softmax_kernel(x, out, row_stride, columns, BLOCK: tl.constexpr):
    row, column = tl.program_id(0), tl.arange(0, BLOCK)
    mask = column < columns
    value = tl.load(x + row * row_stride + column, mask=mask, other=-float("inf"))
    power = tl.exp(value - tl.max(value, axis=0))
    tl.store(out + row * row_stride + column, power / tl.sum(power, axis=0), mask=mask)


@triton.autotune(
    [
        triton.Config({"BM": 128, "BN": 128, "BK": 64}, num_stages=3, num_warps=8),
        triton.Config({"BM": 64, "BN": 64, "BK": 32}, num_stages=2, num_warps=4),
    ],
    key=["M", "N", "K"],
)
@triton.jit
def matmul_kernel(a, b, c, M, N, K, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr):
    row = tl.program_id(0) * BM + tl.arange(0, BM)
    column = tl.program_id(1) * BN + tl.arange(0, BN)
    inner = tl.arange(0, BK)
    total = tl.zeros((BM, BN), tl.float32)
    for k in range(0, K, BK):
        left = tl.load(a + row[:, None] * K + (k + inner)[None, :], mask=row[:, None] < M, other=0.0)
        right = tl.load(b + (k + inner)[:, None] * N + column[None, :], mask=column[None, :] < N, other=0.0)
        total = tl.dot(left, right, total)
    mask = (row[:, None] < M) & (column[None, :] < N)
    tl.store(c + row[:, None] * N + column[None, :], total.to(tl.float16), mask=mask)


def add(x: torch.Tensor, y: torch.Tensor, out: torch.Tensor | None = None, **options: Any) -> torch.Tensor:
    out = torch.empty_like(x) if out is None else out
    add_kernel[(triton.cdiv(x.numel(), 256),)](x, y, out, x.numel(), BLOCK=256, **options)
    return out


def expect(kinds: Any, says: str, call: Callable[[], object]) -> None:
    try:
        call()
    except kinds as error:
        assert says in str(error), f"{type(error).__name__}: {error}"
        return
    raise AssertionError(f"nothing was raised; expected one that says {says!r}")


def child(name: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A case's other half in a process of its own, since it writes to the process's output or loses the context."""
    return subprocess.run(
        [sys.executable, os.path.abspath(__file__), f"child:{name}"],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=300,
    )


@case
def rows_are_normalised() -> None:
    x = cuda(64, 700)
    out = torch.empty_like(x)
    softmax_kernel[(64,)](x, out, x.stride(0), 700, BLOCK=1024)
    torch.testing.assert_close(out, torch.softmax(x, dim=1), rtol=1e-5, atol=1e-6)


@case
def the_tuned_matrix_product_is_right() -> None:
    # The first configuration takes more than 48 KiB of shared memory.
    m, n, k = (200, 144, 128) if EMULATED else (1000, 776, 512)
    a, b = cuda(m, k, dtype=torch.float16), cuda(k, n, dtype=torch.float16)
    c = torch.empty(m, n, dtype=torch.float16, device="cuda")
    matmul_kernel[lambda meta: (triton.cdiv(m, meta["BM"]), triton.cdiv(n, meta["BN"]))](a, b, c, m, n, k)
    torch.testing.assert_close(c.float().cpu(), a.float().cpu() @ b.float().cpu(), rtol=2e-3, atol=2e-2)


@case
def numbers_of_every_kind_arrive() -> None:
    @triton.jit
    def store(out, small, large, huge, real, flag, one, none):
        tl.store(out, small.to(tl.float64))
        tl.store(out + 1, (large // 1000).to(tl.float64))
        tl.store(out + 2, (huge >> 60).to(tl.float64))
        tl.store(out + 3, real.to(tl.float64))
        tl.store(out + 4, flag.to(tl.float64))
        if none is None:
            tl.store(out + 5, one + 0.0)

    out = torch.zeros(6, dtype=torch.float64, device="cuda")
    store[(1,)](out, -7, 1 << 40, (1 << 63) + 5, 0.5, True, 1, None)
    assert out.tolist() == [-7, (1 << 40) // 1000, 8, 0.5, 1, 1], out.tolist()


@where(VERSION >= (3, 4), "needs Triton 3.4")
def tuples_are_opened() -> None:
    @triton.jit
    def scale(pair, out, BLOCK: tl.constexpr):
        offset = tl.arange(0, BLOCK)
        tl.store(out + offset, tl.load(pair[0] + offset) * pair[1])

    x, out = cuda(64), torch.empty(64, device="cuda")
    scale[(1,)]((x, 3), out, BLOCK=64)
    torch.testing.assert_close(out, x * 3)


@where(VERSION >= (3, 4), "needs Triton 3.4")
def hooks_surround_a_launch() -> None:
    from triton import knobs

    seen: list[str] = []
    x = cuda(8)
    before = knobs.runtime.launch_enter_hook, knobs.runtime.launch_exit_hook
    knobs.runtime.launch_enter_hook = lambda metadata: seen.append(f"enter {metadata.get()['name']}")
    knobs.runtime.launch_exit_hook = lambda metadata: seen.append(f"exit {metadata.get()['name']}")
    try:
        add(x, x)
    finally:
        knobs.runtime.launch_enter_hook, knobs.runtime.launch_exit_hook = before
    assert seen == ["enter add_kernel", "exit add_kernel"], seen


@case
def warmup_compiles_and_the_kernel_shows_every_level() -> None:
    x = cuda(8)
    kernel = add_kernel.warmup(x, x, x, 8, BLOCK=128, grid=(1,))
    assert "tt.func" in kernel.asm["ttir"] and ".entry add_kernel" in kernel.asm["ptx"]
    assert "#blocked" in kernel.asm["ttgir"] and "define" in kernel.asm["llir"]
    assert kernel.asm["cubin"][:4] == b"\x7fELF"
    launched = add_kernel[(1,)](x, x, x, 8, BLOCK=128)
    assert launched.asm["ptx"] == kernel.asm["ptx"] and launched.metadata.num_warps == 4
    if not EMULATED:
        assert launched.n_regs > 0 and launched.n_spills == 0, (launched.n_regs, launched.n_spills)


@case
def benchmarks_measure() -> None:
    x = cuda(1000)
    assert triton.testing.do_bench(lambda: add(x, x), warmup=1, rep=2) > 0


@on_a_gpu
def benchmarks_measure_graphs() -> None:
    x, out = cuda(1000), torch.empty(1000, device="cuda")
    add(x, x, out)
    with torch.cuda.stream(torch.cuda.Stream()):
        assert triton.testing.do_bench_cudagraph(lambda: add(x, x, out), rep=5) > 0


@on_a_gpu
def a_graph_of_launches_is_captured_and_replayed() -> None:
    x, out = cuda(1000), torch.zeros(1000, device="cuda")
    add(x, x, out)  # loads the kernel, which a capture does not allow
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    out.zero_()
    with torch.cuda.graph(graph):
        for _ in range(3):
            add(out, x, out)
    assert out.sum() == 0
    graph.replay()
    torch.testing.assert_close(out, x * 3)
    x.copy_(cuda(1000))
    out.zero_()
    graph.replay()
    torch.testing.assert_close(out, x * 3)


@on_a_gpu
def a_launch_waits_for_its_stream_only() -> None:
    x, out = torch.zeros(1000, device="cuda"), torch.zeros(1000, device="cuda")
    add(x, x, out)
    torch.cuda.synchronize()
    side, done = torch.cuda.Stream(), torch.cuda.Event()
    with torch.cuda.stream(side):
        torch.cuda._sleep(200_000_000)  # a tenth of a second or so
        x.fill_(2)
        add(x, x, out)
        done.record()
    assert not done.query(), "the launch was not in the caller's stream, or it waited"
    other = add(torch.ones(10, device="cuda"), torch.ones(10, device="cuda"))
    assert other.sum().item() == 20
    assert not done.query(), "a launch in another stream waited for this one"
    side.synchronize()
    assert (out == 4).all()


@on_hopper
def clusters_run() -> None:
    x = cuda(4096)
    torch.testing.assert_close(add(x, x, num_ctas=2), x + x)


@where(VERSION >= (3, 4), "needs Triton 3.4")
def cooperative_and_dependent_launches_run() -> None:
    x = cuda(4096)
    torch.testing.assert_close(add(x, x, launch_cooperative_grid=True), x + x)
    if torch.cuda.get_device_capability()[0] >= 9:
        torch.testing.assert_close(add(x, x, launch_pdl=True), x + x)


@where(VERSION >= (3, 4), "needs Triton 3.4")
def descriptors_made_by_the_host_are_passed() -> None:
    from triton.tools.tensor_descriptor import TensorDescriptor

    @triton.jit
    def copy(source, target, BLOCK: tl.constexpr):
        row = tl.program_id(0) * BLOCK
        target.store([row, 0], source.load([row, 0]) + 1)

    for dtype in (torch.float32, torch.float16, torch.int32):
        x = (cuda(40, 64) * 100).to(dtype)
        out = torch.zeros_like(x)
        copy[(3,)](*(TensorDescriptor(t, [40, 64], [64, 1], [16, 64]) for t in (x, out)), BLOCK=16)
        torch.testing.assert_close(out, x + 1)


@where(VERSION >= (3, 4), "needs Triton 3.4")
def descriptors_made_by_the_device_are_used() -> None:
    @triton.jit
    def copy(x, out, rows, BLOCK: tl.constexpr):
        source = tl.make_tensor_descriptor(x, [rows, 64], [64, 1], [BLOCK, 64])
        target = tl.make_tensor_descriptor(out, [rows, 64], [64, 1], [BLOCK, 64])
        row = tl.program_id(0) * BLOCK
        target.store([row, 0], source.load([row, 0]) * 2)

    triton.set_allocator(lambda size, align, stream: torch.empty(size, dtype=torch.int8, device="cuda"))
    x = cuda(40, 64)
    out = torch.zeros_like(x)
    copy[(3,)](x, out, 40, BLOCK=16)
    torch.testing.assert_close(out, x * 2)


@where(VERSION >= (3, 4), "needs Triton 3.4")
def gluon_kernels_run() -> None:
    from triton.experimental import gluon
    from triton.experimental.gluon import language as gl

    @gluon.jit
    def copy(source, target, BLOCK: gl.constexpr):
        layout: gl.constexpr = gl.BlockedLayout([1], [32], [4], [0])
        offset = gl.arange(0, BLOCK, layout=layout)
        gl.store(target + offset, gl.load(source + offset) + 1)

    x, out = cuda(128), torch.empty(128, device="cuda")
    copy[(1,)](x, out, BLOCK=128)
    torch.testing.assert_close(out, x + 1)


@case
def views_are_memory_of_their_storage() -> None:
    base = cuda(64, 96)
    left, right = base[:, :32], base.t()[64:, :]  # neither is contiguous

    @triton.jit
    def double(x, rows, row_stride, column_stride, BLOCK: tl.constexpr):
        at = x + tl.program_id(0) * row_stride + tl.arange(0, BLOCK) * column_stride
        tl.store(at, tl.load(at) * 2)

    before = base.clone()
    double[(64,)](left, 64, left.stride(0), left.stride(1), BLOCK=32)
    double[(32,)](right, 32, right.stride(0), right.stride(1), BLOCK=64)
    torch.testing.assert_close(base[:, :32], before[:, :32] * 2)
    torch.testing.assert_close(base[:, 32:64], before[:, 32:64])
    torch.testing.assert_close(base[:, 64:], before[:, 64:] * 2)


@on_a_gpu
def pinned_memory_of_the_host_is_reached() -> None:
    x = torch.rand(500).pin_memory()
    torch.testing.assert_close(add(x, x, torch.empty(500, device="cuda")).cpu(), x + x)


@on_a_gpu
def a_tensor_of_the_host_is_refused() -> None:
    expect(ValueError, "cannot be accessed from Triton (cpu tensor?)", lambda: add(torch.rand(10), torch.rand(10)))
    x = cuda(10)
    torch.testing.assert_close(add(x, x), x + x)


@case
def a_missing_argument_is_refused() -> None:
    expect(TypeError, "", lambda: add_kernel[(1,)](cuda(8), cuda(8), BLOCK=256))


@case
def what_a_kernel_prints_reaches_the_output() -> None:
    done = child("print", TRITON_ALWAYS_COMPILE="1")  # else Triton says nothing of a kernel that it keeps
    assert done.returncode == 0, done.stderr[-2000:]
    assert "pid (1, 0, 0)" in done.stdout and "number: 4711" in done.stdout, (done.stdout + done.stderr)[-2000:]
    assert "compiled for 64" in done.stdout + done.stderr, (done.stdout + done.stderr)[-2000:]


def child_print() -> None:
    @triton.jit
    def shout(n, BLOCK: tl.constexpr):
        tl.static_print("compiled for", BLOCK)
        tl.device_print("number", n)

    shout[(2,)](4711, BLOCK=64)
    torch.cuda.synchronize()


@case
def a_failed_assertion_ends_in_a_runtime_error() -> None:
    done = child("assert", TRITON_DEBUG="1")
    said = done.stdout + done.stderr
    assert "the good one passed" in said and "raised RuntimeError" in said and "must be three" in said, said[-2000:]


def child_assert() -> None:
    @triton.jit(debug=True)
    def check(x):
        tl.device_assert(tl.load(x) == 3, "must be three")

    check[(1,)](torch.full((1,), 3, dtype=torch.int32, device="cuda"), debug=True)
    torch.cuda.synchronize()
    print("the good one passed", flush=True)
    try:
        check[(1,)](torch.full((1,), 4, dtype=torch.int32, device="cuda"), debug=True)
        torch.cuda.synchronize()
    except RuntimeError as error:
        print("raised RuntimeError", error, flush=True)
    os._exit(0)  # a lost context cannot be taken down in order


class Doubled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x)
        return x * 2

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        (x,) = ctx.saved_tensors
        assert x.is_cuda and gradient.device.type == "cuda", "a backward function sees the devices that there are"
        out = torch.empty(x.shape, device=x.device)
        once = gradient.contiguous()
        add_kernel[(1,)](once, once, out, x.numel(), BLOCK=64)
        return out


@case
def backward_functions_launch_kernels() -> None:
    x = cuda(64).requires_grad_()
    Doubled.apply(x).sum().backward()
    assert torch.equal(x.grad, torch.full((64,), 2.0, device="cuda"))
    (gradient,) = torch.autograd.grad(Doubled.apply(x), x, torch.ones(64, device="cuda"))
    assert torch.equal(gradient, torch.full((64,), 2.0, device="cuda"))


@case
def compiled_functions_give_what_they_say() -> None:
    import torch._dynamo.trace_rules as rules

    rules.get_torch_obj_rule_map()  # refuses two of its names that are one object
    compiled = torch.compile(lambda x: torch.sin(x) + x.cos(), backend="eager")
    x = cuda(64)
    out = compiled(x)
    assert out.is_cuda and torch.allclose(out, torch.sin(x) + torch.cos(x))


@case
def random_numbers_come_again_with_their_seed_and_state() -> None:
    torch.cuda.manual_seed(7)
    state = torch.cuda.get_rng_state()
    first = torch.rand(64, device="cuda")
    assert not torch.equal(first, torch.rand(64, device="cuda"))
    torch.cuda.manual_seed_all(7)
    assert torch.equal(first, torch.rand(64, device="cuda"))
    torch.cuda.set_rng_state(state)
    assert torch.equal(first, torch.rand(64, device="cuda"))


@case
def a_kernels_own_random_numbers_take_seed_and_offset_of_the_generator() -> None:
    generator = torch.cuda.default_generators[torch.cuda.current_device()]
    torch.manual_seed(11)
    state = generator.get_state()
    seed, offset = state.view(torch.int64).tolist()
    assert (seed, offset) == (11, 0) and generator.initial_seed() == 11
    state.view(torch.int64)[1] = 8
    generator.set_state(state)
    kept = torch.cuda.get_rng_state()
    torch.cuda.manual_seed(3)
    assert generator.get_state().view(torch.int64).tolist() == [3, 0]
    torch.cuda.set_rng_state(kept)
    assert generator.get_state().view(torch.int64).tolist() == [11, 8]


def main(wanted: list[str]) -> int:
    failed = []
    for name, function in CASES.items():
        if wanted and name not in wanted:
            continue
        try:
            function()
        except Exception:
            failed.append(name)
            print(f"FAILED {name}:\n{traceback.format_exc(limit=-3)}", flush=True)
    for name, reason in LEFT_OUT.items():
        print(f"left out {name}: {reason}")
    print(f"failed: {', '.join(failed)}" if failed else f"ok: {len(CASES)} cases")
    return 1 if failed else 0


if __name__ == "__main__":
    if sys.argv[1:] and sys.argv[1].startswith("child:"):
        globals()[sys.argv[1].replace("child:", "child_")]()
    else:
        sys.exit(main(sys.argv[1:]))
