"""Against a real trund, with real kernels on the emulator; skipped where trund is not built (TRUN_BUILD_DIR)."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Iterator

import ml_dtypes
import numpy as np
import pytest
import trun
import trun.language as tl

ROOT = pathlib.Path(__file__).resolve().parents[3]
KERNELS = ROOT / "examples" / "kernels"


@pytest.fixture(scope="module")
def live(real_daemon: str) -> Iterator[trun.Session]:
    with trun.connect(real_daemon) as session:
        if not [t for t in session.toolchains() if not t.unusable_reason]:
            pytest.skip("the daemon has no toolchain")
        yield session


@pytest.fixture(scope="module")
def add(live: trun.Session) -> trun.Kernel:
    return live.load(KERNELS / "vector_add.ttir")


def vectors(n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    x, y = np.random.default_rng(n).standard_normal((2, n), dtype=np.float32)
    return x, y, np.zeros_like(x)


@pytest.mark.parametrize("n", [1, 1000, 1024, 3000, 200_003])
def test_vector_add_is_right_for_odd_sizes(add: trun.Kernel, n: int) -> None:
    x, y, out = vectors(n)
    add[trun.cdiv(n, 1024),](x, y, out, n)
    np.testing.assert_array_equal(out, x + y)


def test_tensors_share_memory_with_the_daemon(live: trun.Session, add: trun.Kernel) -> None:
    x, y, out = (live.tensor(v) for v in vectors(100_000))
    view = out.map()
    add[98](x, y, out, 100_000)
    np.testing.assert_array_equal(view, x.numpy() + y.numpy())


def test_arrays_of_bfloat16(live: trun.Session) -> None:
    m, n, k = 70, 96, 80
    rng = np.random.default_rng(1)
    a, b = (rng.standard_normal(s, dtype=np.float32).astype(ml_dtypes.bfloat16) for s in ((m, k), (k, n)))
    c = np.zeros((m, n), ml_dtypes.bfloat16)
    live.load(KERNELS / "matmul_bf16.ttir")[2, 2](a, b, c, m, n, k, k, n, n)
    expected = a.astype(np.float32) @ b.astype(np.float32)
    np.testing.assert_allclose(c.astype(np.float32), expected, rtol=2**-7, atol=2**-6)


@trun.jit
def scaled_sum(x_ptr, y_ptr, out_ptr, n, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(x_ptr + at, mask=at < n).to(tl.float32)
    y = tl.load(y_ptr + at, mask=at < n).to(tl.float32)
    tl.store(out_ptr + at, (x * 0.75 + y).to(out_ptr.dtype.element_ty), mask=at < n)


@pytest.mark.parametrize("dtype", [ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2])
def test_arrays_of_8_bit_floats(real_daemon: str, dtype: type) -> None:
    n = 500
    x, y = np.random.default_rng(8).standard_normal((2, n), dtype=np.float32).astype(dtype)
    out: np.ndarray = np.zeros(n, dtype)
    with trun.connect(real_daemon, device="emulator:1") as session:  # sm_90: earlier ones have no e4m3
        scaled_sum[(4,)](x, y, out, n, BLOCK=128, session=session)
        tensor = session.tensor(x)
        scaled_sum[(4,)](tensor, y, tensor, n, BLOCK=128, session=session)
        kept = tensor.numpy()
    expected = (x.astype(np.float32) * np.float32(0.75) + y.astype(np.float32)).astype(dtype)
    assert len(set(out.tolist())) > 30 and kept.dtype == dtype
    np.testing.assert_array_equal(out.view(np.uint8), expected.view(np.uint8))
    np.testing.assert_array_equal(kept.view(np.uint8), expected.view(np.uint8))


def test_a_second_load_is_found_in_the_cache_and_all_artifacts_can_be_read(
    live: trun.Session, add: trun.Kernel
) -> None:
    again = live.load(KERNELS / "vector_add.ttir")
    assert again.cached
    assert ".visible .entry" in again.asm["ptx"]
    assert again.signature == add.signature
    assert again.metadata["num_warps"] == again.num_warps


def test_ptx_and_its_metadata_load_without_a_compile(
    live: trun.Session, add: trun.Kernel, tmp_path: pathlib.Path
) -> None:
    (tmp_path / "add.ptx").write_text(str(add.asm["ptx"]))
    (tmp_path / "add.json").write_text(json.dumps(add.metadata))
    kernel = live.load(tmp_path / "add.ptx")
    assert len(kernel.signature) == len(add.signature)
    x, y, out = vectors(2000)
    kernel[2](x, y, out, 2000)
    np.testing.assert_array_equal(out, x + y)


def test_text_without_a_name_is_known_by_its_contents(live: trun.Session, add: trun.Kernel) -> None:
    assert live.load((KERNELS / "vector_add.ttir").read_text()).signature == add.signature
    with pytest.raises(trun.UnsupportedLevelError):
        live.load("no kernel\nof any level\n")
    with pytest.raises(trun.UnsupportedLevelError):
        live.load(b"\177ELF\2\1\1\63\7\0\0\0\0\0\0\0\2\0\276\0")


def test_ir_that_does_not_parse_names_the_line(live: trun.Session, tmp_path: pathlib.Path) -> None:
    text = (KERNELS / "vector_add.ttir").read_text().replace("tt.load", "tt.laod", 1)
    (tmp_path / "bad.ttir").write_text(text)
    with pytest.raises(trun.CompileError) as caught:
        live.load(tmp_path / "bad.ttir")
    assert caught.value.line == next(i for i, line in enumerate(text.splitlines(), 1) if "tt.laod" in line)


def test_bad_arguments_are_refused_by_the_daemon_too(live: trun.Session, add: trun.Kernel) -> None:
    x, y, out = (live.tensor(v) for v in vectors(16))
    wrong = live.empty(16, np.float64)
    with pytest.raises(trun.ArgumentError) as caught:
        add[1](x, wrong, out, 16)
    assert caught.value.details["argument"] == "1"
    with pytest.raises(trun.ArgumentError):
        add[1](x, y, out, 1 << 40)
    with pytest.raises(trun.UnknownOptionError):
        live.load(KERNELS / "vector_add.ttir", options={"num_wraps": 8})


def test_a_store_past_a_tensor_names_it_and_the_session_goes_on(live: trun.Session, add: trun.Kernel) -> None:
    x, y, out = vectors(1000)
    with pytest.raises(trun.IllegalAddressError) as caught:
        add[1](x, y, out[:999].copy(), 1000)
    fault = caught.value.fault
    assert fault is not None
    assert fault.instruction
    assert fault.ptx_line > 0
    add[1](x, y, out, 1000)
    np.testing.assert_array_equal(out, x + y)


COUNTER = """.version 8.0
.target sm_80
.address_size 64
.visible .entry counter(.param .u64 x)
.reqntid 32, 1, 1
{
.reg .pred %p<2>; .reg .b32 %r<4>; .reg .b64 %rd<2>;
ld.param.u64 %rd1, [x];
.loc 1 5 1
mov.u32 %r1, %tid.x;
setp.ne.u32 %p1, %r1, 0;
@%p1 bra $end;
ld.global.b32 %r2, [%rd1];
.loc 1 6 1
add.u32 %r2, %r2, 1;
st.global.b32 [%rd1], %r2;
$end: ret;
}
.file 1 "counter.py"
"""


def test_checks_and_a_trace_come_with_a_launch(
    live: trun.Session, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "counter.ptx").write_text(COUNTER)
    (tmp_path / "counter.json").write_text(json.dumps({"name": "counter", "num_warps": 1, "shared": 0, "num_ctas": 1}))
    kernel = live.load(tmp_path / "counter.ptx")
    x = np.zeros(1, np.int32)
    kernel[3](x)
    assert 1 <= x[0] <= 3  # programs on several threads: that is the race
    with pytest.raises(trun.RaceError) as caught:
        kernel[3](x, check="race")
    fault = caught.value.fault
    assert fault is not None and fault.other is not None
    assert fault.program == (1, 0, 0) and fault.other.program == (0, 0, 0) and fault.other.source_line == 6
    assert "earlier write: counter.py:6" in str(caught.value)
    with pytest.raises(trun.ArgumentError):
        kernel[1](x, check="everything")
    trace = kernel[2](x, check=["uninit"], trace=trun.Trace(registers=True, program=(1,))).trace
    assert 0 < trace.index("counter.py:5\n") < trace.index("counter.py:6\n") and "%r2 = " in trace
    assert kernel[1](x).trace == ""
    monkeypatch.setenv("TRUN_CHECK", "race")
    with pytest.raises(trun.RaceError):
        kernel[3](x)
    kernel[3](x, check="uninit")  # what the call says stands before the environment


def test_what_nobody_wrote_into_an_empty_tensor_is_reported(live: trun.Session, tmp_path: pathlib.Path) -> None:
    (tmp_path / "counter.ptx").write_text(COUNTER)
    (tmp_path / "counter.json").write_text(json.dumps({"name": "counter", "num_warps": 1, "shared": 0, "num_ctas": 1}))
    kernel = live.load(tmp_path / "counter.ptx")
    x = live.empty(1, np.int32)
    with pytest.raises(trun.UninitializedReadError) as caught:
        kernel[1](x, check="uninit")
    assert caught.value.fault is not None and caught.value.fault.nearest_tensor == x.handle
    kernel[1](live.zeros(1, np.int32), check="uninit")
    kernel[1](x.fill(3), check="uninit")
    mapped = live.empty(1, np.int32)
    mapped.map()[:] = 4  # unseen by the daemon: the client tells
    kernel[1](mapped, check="uninit")
    assert x.numpy()[0] == 4 and mapped.numpy()[0] == 5


def test_a_freed_tensor_is_refused(live: trun.Session, add: trun.Kernel) -> None:
    x, y, out = (live.tensor(v) for v in vectors(16))
    reference = x.at(0)
    x.free()
    with pytest.raises(trun.HandleError):
        add[1](reference, y, out, 16)


def test_a_benchmark_counts_what_ran(add: trun.Kernel) -> None:
    result = add[4].benchmark(*vectors(4096), 4096, repetitions=3)
    assert len(result.seconds) == 3
    assert result.best > 0
    assert result.warp_instructions > 0


def test_a_closed_session_is_gone(real_daemon: str) -> None:
    session = trun.connect(real_daemon)
    session.close()
    with pytest.raises(trun.SessionExpiredError):
        session.empty(4)
