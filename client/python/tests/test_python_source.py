"""Kernels as Python source, lowered by a real trund and run on its emulator; skipped where trund is not built.

TRUN_SOURCE_TOOLCHAINS names the versions of Triton to test, "3.9.0,3.4.0" by default.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import logging
import os
import pathlib
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import source_kernels as k
import source_kernels_library
import trun
import trun.language as tl
from trun._symbols import Symbol

ROOT = pathlib.Path(__file__).resolve().parents[3]
FILE = k.__file__
P = {"kind": "pointer", "dtype": "f32", "divisible": True}


@pytest.fixture(scope="module")
def live(real_daemon: str) -> Iterator[trun.Session]:
    with trun.connect(real_daemon) as session:
        trun.set_default_session(session)
        yield session
        trun.set_default_session(None)


@pytest.fixture(scope="module", params=os.environ.get("TRUN_SOURCE_TOOLCHAINS", "3.9.0,3.4.0").split(","))
def tc(request: pytest.FixtureRequest, live: trun.Session) -> str:
    if request.param not in [t.name for t in live.toolchains()]:
        pytest.skip(f"Triton {request.param} is not installed")
    return str(request.param)


def values(n: int, seed: int = 1) -> Any:
    return np.random.default_rng(seed).standard_normal(n).astype(np.float32)


def needs(tc: str, version: tuple[int, int]) -> None:
    if tuple(int(n) for n in tc.split(".")[:2]) < version:
        pytest.skip(f"begins with Triton {version[0]}.{version[1]}")


def line_of(text: str, file: str = FILE) -> int:
    lines = pathlib.Path(file).read_text().splitlines()
    return next(i for i, line in enumerate(lines, 1) if text in line)


def text_bundle(statement: str) -> bytes:
    """A file whose third line is `statement`, which binds X."""
    source = f"import triton\nimport triton.language as tl\n{statement}\n@triton.jit\ndef k(p):\n    tl.store(p, X)\n"
    text = {"file": "/home/user/kernel.py", "source": source, "function": "k"}
    return json.dumps({"format": 1, "text": text, "arguments": {"p": P}}).encode()


# What is wrong.


def test_triton_s_message_comes_at_the_user_s_line(tc: str) -> None:
    with pytest.raises(trun.InvalidIrError) as caught:
        k.wrong[(1,)](values(4), 4, toolchain=tc)
    line = line_of("x.no_such_attribute")
    assert (caught.value.file, caught.value.line, caught.value.column) == (FILE, line, 21)
    assert f"{FILE}:{line}:21: " in str(caught.value) and "no_such_attribute" in str(caught.value)


def test_an_error_in_a_called_function_names_both_places(tc: str) -> None:
    with pytest.raises(trun.InvalidIrError) as caught:
        k.wrong_below[(1,)](values(4), toolchain=tc)
    library = source_kernels_library.__file__
    assert (caught.value.file, caught.value.line) == (library, line_of("there_is_no_such_name", library))
    assert f"called from {FILE}:{line_of('library.broken')}" in str(caught.value)


def test_a_static_assertion_says_what_it_says(tc: str) -> None:
    with pytest.raises(trun.InvalidIrError, match="blocks have more than 100") as caught:
        k.asserts[(1,)](values(4), 64, toolchain=tc)
    assert caught.value.line == line_of("tl.static_assert(BLOCK > 100")


def test_a_plain_global_is_refused_by_triton_itself(tc: str) -> None:
    with pytest.raises(trun.InvalidIrError, match="DEFAULT") as caught:
        k.uses_plain_global[(1,)](values(4), toolchain=tc)
    assert caught.value.line == line_of("tl.store(x_ptr, DEFAULT)")


def test_an_unknown_option_lists_the_known_ones(tc: str) -> None:
    with pytest.raises(trun.UnknownOptionError, match="num_wraps.*num_warps"):
        k.add[(1,)](values(4), values(4), values(4), 4, num_wraps=8, toolchain=tc)


def test_arguments_are_bound_as_python_binds_them(live: trun.Session) -> None:
    with pytest.raises(trun.errors.ArgumentError, match="missing a required argument"):
        k.add[(1,)](values(4), values(4))
    with pytest.raises(trun.errors.ArgumentError, match="'x_ptr' of add: a set cannot be passed"):
        k.add[(1,)]({1}, values(4), values(4), 4)
    with pytest.raises(RuntimeError, match="is a kernel"):
        k.add(values(4), values(4), values(4), 4)


def test_a_name_that_no_triton_has_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no Triton from 3.0 to 3.9"):
        tl.flaot32  # noqa: B018


def test_a_name_that_this_triton_lacks_is_told_with_its_version(tc: str) -> None:
    other = Symbol("triton.language.a_name_of_another_version")
    with pytest.raises(trun.InvalidIrError, match=f"Triton {tc} has no triton.language.a_name_of_another_version"):
        k.moded[(1,)](values(8), values(8), 8, "copy", other, BLOCK=8, toolchain=tc)


@pytest.mark.parametrize(
    ("statement", "error", "words"),
    [
        ("import torch; X = torch.pi", trun.InvalidIrError, "No module named 'torch'"),
        ("X = open('/etc/passwd').read()", trun.NotPermittedError, "Permission denied"),
        ("import socket; X = socket.create_connection(('127.0.0.1', 1))", trun.NotPermittedError, "not permitted"),
        ("import os; X = os.fork()", trun.NotPermittedError, "not permitted"),
        ("X = [bytearray(1 << 20) for _ in iter(int, 1)]", trun.errors.CompileOutOfMemoryError, "2048 MiB"),
        ("import os; X = os._exit(3)", trun.CompileError, "exit code 3"),
    ],
    ids=["import", "file", "socket", "fork", "memory", "exit"],
)
def test_source_that_wants_more_than_lowering_is_told_so_and_harms_nobody(
    live: trun.Session, real_daemon: str, tc: str, statement: str, error: type[trun.TrunError], words: str
) -> None:
    with trun.connect(real_daemon) as other:
        tensor = other.tensor(values(8))
        with pytest.raises(error, match=words):
            live.load(text_bundle(statement), level="python", toolchain=tc)
        np.testing.assert_array_equal(tensor.numpy(), values(8))
    assert live.load(text_bundle("X = tl.constexpr(1)"), level="python", toolchain=tc).name == "k"


def test_source_that_loops_for_ever_is_cut_at_the_deadline(live: trun.Session, tc: str) -> None:
    with pytest.raises(trun.CompileTimeoutError, match="loop for ever"):
        live.load(text_bundle("for X in iter(int, 1): pass"), level="python", toolchain=tc, deadline=2)
    assert live.load(text_bundle("X = tl.constexpr(2)"), level="python", toolchain=tc).name == "k"


def front_ends(address: str) -> list[int]:
    """The zygotes of a daemon, and what they forked."""
    folder = str(pathlib.Path(address.removeprefix("unix:")).parent)
    found = []
    for process in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes().decode()
        except (OSError, UnicodeDecodeError):
            continue
        if "trun_frontend.py" in command and folder in command:
            found.append(int(process.name))
    return found


def test_a_front_end_killed_in_the_middle_says_so_and_the_next_one_works(live: trun.Session, real_daemon: str) -> None:
    tensor = live.tensor(values(1000))
    errors: list[BaseException] = []

    def lower() -> None:
        try:
            live.load(text_bundle("for X in iter(int, 1): pass"), level="python", deadline=60)
        except BaseException as error:
            errors.append(error)

    call = threading.Thread(target=lower)
    call.start()
    while call.is_alive():  # a front end that was killed before it had answered is replaced a few times
        for process in front_ends(real_daemon):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        call.join(0.02)
    assert isinstance(errors[0], trun.errors.WorkerLostError), errors
    np.testing.assert_array_equal(tensor.numpy(), values(1000))
    assert live.load(text_bundle("X = tl.constexpr(3)"), level="python").name == "k"


def test_front_ends_that_were_killed_while_idle_are_not_noticed(live: trun.Session, real_daemon: str) -> None:
    assert live.load(text_bundle("X = tl.constexpr(4)"), level="python").name == "k"
    for process in front_ends(real_daemon):
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
    assert live.load(text_bundle("X = tl.constexpr(5)"), level="python").name == "k"


def test_a_file_that_is_no_bundle_says_how_source_is_sent(live: trun.Session) -> None:
    with pytest.raises(trun.InvalidIrError, match="@trun.jit"):
        live.load(b"import triton\n", level="python")


# What is right.


@pytest.mark.parametrize("n", [1, 127, 1000])
def test_nested_calls_constexpr_globals_and_defaults(tc: str, n: int) -> None:
    x, y, out = values(n), values(n, 2), np.zeros(n, np.float32)
    kernel = k.add[lambda meta: (trun.cdiv(meta["n"], meta["BLOCK"]),)](x, y, out, n, toolchain=tc)
    np.testing.assert_array_equal(out, x + y + 2)
    assert kernel.toolchain == tc and kernel.asm["ttir"] and ".visible .entry add" in kernel.asm["ptx"]


def test_functions_and_constants_of_other_modules(tc: str) -> None:
    x, out = values(300), np.zeros(300, np.float32)
    k.from_other_modules[(3,)](x, out, 300, BLOCK=128, toolchain=tc)
    np.testing.assert_allclose(out, np.maximum(x, 0) * 3 + x * 0.25 + 11, rtol=1e-6)


def test_closures_of_one_text_are_kernels_of_their_own(tc: str) -> None:
    x = values(100)
    for factor in (2, 5):
        out = np.zeros(100, np.float32)
        k.scaled_by(tl.constexpr(factor))[(1,)](x, out, 100, BLOCK=128, toolchain=tc)
        np.testing.assert_allclose(out, x * factor + 7, rtol=1e-5, atol=1e-5)


def test_static_loops_strings_and_dtypes(tc: str) -> None:
    x, out = values(60), np.zeros(60, np.float32)
    k.unrolled[(1,)](x, out, 60, STEPS=3, BLOCK=64, toolchain=tc)
    np.testing.assert_allclose(out, x - x + 3 * x, rtol=1e-6)
    whole = np.zeros(60, np.int32)
    k.moded[(1,)](x * 9, whole, 60, "square", tl.int32, BLOCK=64, toolchain=tc)
    np.testing.assert_array_equal(whole, (x * 9).astype(np.int32) ** 2)


def test_none_one_and_floats_are_specialised(tc: str) -> None:
    x, bias, out = values(64), values(64, 2), np.zeros(64, np.float32)
    plain = k.optional[(1,)](x, None, out, 64, 2.5, 1, BLOCK=64, toolchain=tc)
    np.testing.assert_allclose(out, x * np.float32(2.5), rtol=1e-6)
    biased = k.optional[(1,)](x, bias, out[:32], 32, 2.5, 2, BLOCK=64, toolchain=tc)
    np.testing.assert_allclose(out[:32], x[::2] * np.float32(2.5) + bias[:32], rtol=1e-6)
    assert len(plain.signature) == 4 and len(biased.signature) == 6


def test_divisibility_is_that_of_the_arguments(live: trun.Session, tc: str) -> None:
    tensor = live.tensor(values(68))
    x, y, out = (values(64) for _ in range(3))
    aligned = k.add[(1,)](tensor, y, out, 64, toolchain=tc)
    shifted = k.add[(1,)](tensor.at(1), y, out, 63, toolchain=tc)
    assert [a.divisibility for a in aligned.signature] == [16, 16, 16, 16]
    assert [a.divisibility for a in shifted.signature] == [1, 16, 16, 1]
    np.testing.assert_array_equal(out[:63], tensor.numpy()[1:64] + y[:63] + 2)
    del x


def test_tuples_of_pointers_and_numbers(tc: str) -> None:
    needs(tc, (3, 3))
    x, y, out = values(64), values(64, 2), np.zeros(64, np.float32)
    k.sum_of_tuple[(1,)]((x, (y, 3)), out, 64, BLOCK=64, toolchain=tc)
    np.testing.assert_allclose(out, x + y * 3, rtol=1e-6)
    k.fields[(1,)](k.Pair(x, y), out, BLOCK=64, toolchain=tc)
    np.testing.assert_array_equal(out, x - y)


def test_tensor_descriptors(live: trun.Session, tc: str) -> None:
    needs(tc, (3, 4))
    x = values(64 * 32).reshape(64, 32)
    source, target = live.tensor(x), live.zeros((64, 32))
    descriptors = [trun.TensorDescriptor(t, block_shape=(16, 16)) for t in (source, target)]
    k.tiles[(4, 2)](*descriptors, BLOCK=16, toolchain=tc)
    np.testing.assert_array_equal(target.numpy(), x + 1)
    out = np.zeros_like(x)
    k.device_tiles[(4, 2)](x, out, 64, 32, BLOCK=16, toolchain=tc)
    np.testing.assert_array_equal(out, x + 1)


def test_functions_as_arguments_and_out_of_line(tc: str) -> None:
    x, out = values(64), np.zeros(64, np.float32)
    k.applied[(1,)](x, out, source_kernels_library.relu, BLOCK=64, toolchain=tc)
    np.testing.assert_array_equal(out, np.maximum(x, 0))
    k.calls_separate[(1,)](x, out, BLOCK=64, toolchain=tc)
    np.testing.assert_array_equal(out, x[0] * 5)
    k.uses_library[(1,)](x, out, BLOCK=64, toolchain=tc)
    np.testing.assert_allclose(out, np.exp(x - x.max()) + 2, rtol=1e-5)


def test_annotations_and_do_not_specialize_decide_types(tc: str) -> None:
    out = np.zeros(1, np.int64)
    one = k.unspecialised[(1,)](out, 1, toolchain=tc)
    assert out[0] == 1 and [str(a.dtype) for a in one.signature] == ["i64", "i32"]
    real = np.zeros(1, np.float32)
    kernel = k.annotated[(1,)](real, 3, 4, toolchain=tc)
    assert real[0] == 7 and [a.dtype for a in kernel.signature] == ["f32", "i64", "f32"]


def test_prints_reach_the_caller(tc: str, capsys: pytest.CaptureFixture[str]) -> None:
    k.prints[(1,)](np.array([42.0], np.float32), toolchain=tc)
    assert "42.0" in capsys.readouterr().out


def test_what_is_printed_while_a_kernel_is_compiled_reaches_the_caller_once(
    tc: str, capsys: pytest.CaptureFixture[str]
) -> None:
    x = np.zeros(64, np.float32)
    for block, expected in ((64, "compiled for 64\n"), (64, ""), (32, "compiled for 32\n")):
        k.prints_while_it_is_compiled[(1,)](x, BLOCK=block, toolchain=tc)
        assert capsys.readouterr().out == expected
    again = trun.jit(k.prints_while_it_is_compiled.fn)[(1,)](x, BLOCK=64, toolchain=tc)  # from the daemon's cache
    assert again.cached and capsys.readouterr().out == "compiled for 64\n"
    with pytest.raises(trun.CompileError, match="printed: seen 64"):
        k.wrong_after_printing[(1,)](x, BLOCK=64, toolchain=tc)


def test_a_grid_with_a_zero_launches_nothing(tc: str) -> None:
    out = values(4)
    kernel = k.add[(0,)](values(4), values(4), out, 4, toolchain=tc)
    np.testing.assert_array_equal(out, values(4))
    assert kernel.last_result is None or kernel.name == "add"


def test_the_second_launch_compiles_nothing_and_a_second_process_finds_it_in_the_cache(live: trun.Session) -> None:
    x, y, out = values(64), values(64, 2), np.zeros(64, np.float32)
    first = k.add[(1,)](x, y, out, 64)
    assert k.add[(1,)](x, y, out, 64) is first
    again = trun.jit(k.add.fn)[(1,)](x, y, out, 64)  # a decorator that has seen nothing
    assert again is not first and again.cached and again.cache_key == first.cache_key


def test_a_global_that_changes_is_seen(tc: str, monkeypatch: pytest.MonkeyPatch) -> None:
    x, out = values(64), np.zeros(64, np.float32)
    k.add[(1,)](x, x, out, 64, toolchain=tc)
    monkeypatch.setattr(k, "SHIFT", tl.constexpr(100))
    k.add[(1,)](x, x, out, 64, toolchain=tc)
    np.testing.assert_allclose(out, x + x + 100, rtol=1e-6)


def test_the_example_kernels_are_taken_as_they_are(tc: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "triton", trun)
    monkeypatch.setitem(sys.modules, "triton.language", trun.language)
    path = ROOT / "examples/kernels/kernels.py"
    spec = importlib.util.spec_from_file_location("example_kernels", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["example_kernels"] = module
    spec.loader.exec_module(module)
    x = values(5 * 100).reshape(5, 100)
    out = np.zeros_like(x)
    module.softmax[(5,)](out, x, 100, 100, 100, BLOCK=128, toolchain=tc)
    powers = np.exp(x - x.max(1, keepdims=True))
    np.testing.assert_allclose(out, powers / powers.sum(1, keepdims=True), rtol=1e-5)
    y, mean, rstd = np.zeros_like(x), np.zeros(5, np.float32), np.zeros(5, np.float32)
    w, b = values(100, 3), values(100, 4)
    module.layer_norm[(5,)](x, y, w, b, mean, rstd, 100, 100, 1e-5, BLOCK=64, toolchain=tc)
    expected = (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-5) * w + b
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)


def test_gluon_source_becomes_a_kernel(live: trun.Session) -> None:
    import source_kernels_gluon as g

    x, out = values(256), np.zeros(256, np.float32)
    kernel = g.copy_scaled[(2,)](x, out, 200, BLOCK=128, LAYOUT=g.LAYOUT)
    np.testing.assert_array_equal(out[:200], x[:200] * 2)
    assert not out[200:].any() and list(kernel.asm)[:2] == ["gluon", "ttgir"]


REAL_TRITON = """
import numpy as np, triton, trun
import triton.language as tl

SHIFT = tl.constexpr(4)

@triton.jit
def inner(x):
    return x * 2 + SHIFT

@triton.jit
def kernel(x_ptr, out_ptr, n, KIND: tl.constexpr, BLOCK: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = offsets < n
    x = inner(tl.load(x_ptr + offsets, mask=mask)) + tl.cdiv(BLOCK, 100)
    tl.store(out_ptr + offsets, x.to(KIND), mask=mask)

x = np.arange(100, dtype=np.float32)
out = np.zeros(100, np.int32)
trun.jit(kernel)[(1,)](x, out, 100, tl.int32, BLOCK=128)
assert (out == x * 2 + 6).all(), out

@trun.jit
def mixed(x_ptr, out_ptr, BLOCK: tl.constexpr):
    offsets = tl.arange(0, BLOCK)
    tl.store(out_ptr + offsets, inner(tl.load(x_ptr + offsets)))

out = np.zeros(64, np.float32)
mixed[(1,)](x[:64], out, BLOCK=64)
assert (out == x[:64] * 2 + 4).all(), out
print("right")
"""


@pytest.mark.parametrize("version", ["3.9.0", "3.4.0"])
def test_kernels_of_a_real_triton_are_taken_as_they_are(real_daemon: str, tmp_path: pathlib.Path, version: str) -> None:
    toolchains = pathlib.Path(os.environ.get("TRUN_TOOLCHAINS_DIR", ROOT / "build/toolchains"))
    (packages,) = toolchains.glob(f"{version}/lib/python3*/site-packages") or (None,)
    if packages is None or packages.parent.name != f"python{sys.version_info[0]}.{sys.version_info[1]}":
        pytest.skip(f"no Triton {version} for this Python")
    script = tmp_path / "script.py"
    script.write_text(REAL_TRITON)
    path = os.pathsep.join([*(p for p in sys.path if p), str(packages)])
    environment = os.environ | {"PYTHONPATH": path, "TRUN_ADDRESS": real_daemon, "TRITON_CACHE_DIR": str(tmp_path)}
    done = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True, timeout=120)
    assert done.stdout == "right\n", done.stderr


# Autotuning and heuristics.


def tuned() -> Any:
    configs = [trun.Config({"BLOCK_M": m, "BLOCK_N": 32, "BLOCK_K": 32}, num_warps=4) for m in (16, 32)]
    configs.append(trun.Config({"BLOCK_M": 24, "BLOCK_N": 32, "BLOCK_K": 32}))  # no power of two: it cannot compile
    even = trun.heuristics({"EVEN_K": lambda args: args["k"] % args["BLOCK_K"] == 0})
    return trun.autotune(configs, key=["m", "n", "k"], reset_to_zero=["c_ptr"])(even(k.matmul))


def test_the_autotuner_ranks_by_instructions_on_an_emulator_and_keeps_its_choice(live: trun.Session) -> None:
    kernel = tuned()
    m, n, inner = 40, 33, 64
    a, b = (values(s[0] * s[1]).reshape(s).astype(np.float16) for s in ((m, inner), (inner, n)))
    for attempt in range(2):
        c = np.zeros((m, n), np.float32)
        kernel[lambda meta: (trun.cdiv(m, meta["BLOCK_M"]), trun.cdiv(n, meta["BLOCK_N"]))](
            a, b, c, m, n, inner, inner, n, n
        )
        np.testing.assert_allclose(c, a.astype(np.float32) @ b.astype(np.float32), rtol=1e-3, atol=1e-3)
        (tuning,) = kernel.tunings.values()
        assert tuning.ranked_by == "warp instructions"
        if attempt == 0:
            figures = [tuning.figures[config] for config in kernel.configs]
            assert figures[0] > 0 and figures[1] > 0 and figures[2] == float("inf")
            assert tuning.figures[tuning.config] == min(figures) and tuning.errors[kernel.configs[2]]
            best, kernel = tuning.config, tuned()  # as another process would
        else:
            assert tuning.found and tuning.config == best


# A file of another level in the place of the source.


def test_a_folder_of_files_takes_the_place_of_the_source(
    live: trun.Session, tc: str, tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    x, y, out = values(64), values(64, 2), np.zeros(64, np.float32)
    made = k.add[(1,)](x, y, out, 64, BLOCK=64, toolchain=tc)
    cache = tmp_path / "cache" / "HASH"
    cache.mkdir(parents=True)
    for level in ("ttir", "ttgir", "llir", "ptx"):
        (cache / f"add.{level}").write_text(str(made.asm[level]))
    (cache / "add.json").write_text(json.dumps(made.metadata))
    for level in ("ttir", "ttgir", "llir", "ptx"):
        for given in ({f"{level}_dir": cache}, {f"{level}_dir": tmp_path / "cache"}):
            out[:] = 0
            kernel = k.add[(1,)](x, y, out, 64, BLOCK=64, toolchain=tc, **given)
            np.testing.assert_array_equal(out, x + y + 2)
            assert level in kernel.asm and "python" not in kernel.asm
        out[:] = 0
        inline = {f"{level}_src": made.asm[level], "metadata_json": made.metadata}
        with caplog.at_level(logging.INFO, "trun"):
            k.add[(1,)](x, y, out, 64, BLOCK=64, toolchain=tc, **inline)
        np.testing.assert_array_equal(out, x + y + 2)
    assert "kernel cache hit: add" in caplog.text
    with pytest.raises(trun.errors.ArgumentError, match="there is no add.ttir in"):
        k.add[(1,)](x, y, out, 64, BLOCK=64, ttir_dir=tmp_path)
    with pytest.raises(trun.errors.ArgumentError, match="one place"):
        k.add[(1,)](x, y, out, 64, BLOCK=64, ttir_dir=cache, ptx_src="…")
    assert trun.get_file_dir(__file__) == str(pathlib.Path(__file__).resolve().parent)


@pytest.mark.parametrize("level", ["ttir", "ttgir", "llir", "ptx"])
def test_a_stride_that_was_compiled_in_as_1_and_comes_as_2_is_named(
    tc: str, level: str, tmp_path: pathlib.Path
) -> None:
    n = 17
    x, y = values(n * n).reshape(n, n).astype(np.float16), values(n * n, 2).reshape(n, n).astype(np.float16)
    sizes = {"BLOCK_M": 32, "BLOCK_N": 32, "BLOCK_K": 32, "EVEN_K": False, "toolchain": tc}

    def run(stride: int, **file: Any) -> Any:
        out = np.zeros((n, n), np.float32)
        kernel = k.matmul[(1, 1)](x, y, out, n, n, n, n, stride, n, **sizes, **file)
        return kernel, out

    one, right = run(1)
    two, other = run(2)
    assert len(one.signature) == 8 and len(two.signature) == 9
    files = {kernel: {f"{level}_src": kernel.asm[level], "metadata_json": kernel.metadata} for kernel in (one, two)}
    with pytest.raises(trun.errors.ArgumentError, match=r"'stride_bk' (is 2|\(2\)).*made for this value"):
        run(2, **files[one])
    (tmp_path / f"matmul.{level}").write_text(str(one.asm[level]))
    (tmp_path / "matmul.json").write_text(json.dumps(one.metadata))
    folder = {f"{level}_dir": tmp_path}
    with pytest.raises(trun.errors.ArgumentError, match=r"'stride_bk' (is 2|\(2\)).*made for this value"):
        run(2, **folder)
    np.testing.assert_array_equal(run(1, **folder)[1], right)
    np.testing.assert_array_equal(run(1, **files[one])[1], right)
    np.testing.assert_array_equal(run(2, **files[two])[1], other)
    # The other way round all that the code needs is there.
    np.testing.assert_array_equal(run(1, **files[two])[1], right)
