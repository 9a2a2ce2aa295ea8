"""What bad input gets at the entry points of Python: @trun.jit, @trun.gluon.jit, @trun.autotune, *_src= and *_dir=.

A typed error with its place, the session usable, its tensors intact, and another session that notices nothing. A cubin
runs on the fake driver of the C++ tests, all else on the emulator; tests/integration has the same for the command line.
"""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import bad_source_kernels
import numpy as np
import pytest
import source_kernels as k
import trun
from bad_source_kernels import endless, fill, gluon_endless, gluon_fill, takes_text
from trun import gluon
from trun.v1 import session_pb2

FILE = bad_source_kernels.__file__
LEVELS = ("ttir", "ttgir", "llir", "ptx", "cubin")
SOURCES = ("jit", "gluon", "autotune")
INLINE = tuple(f"{level}_src" for level in LEVELS)
FILES = (*INLINE, *(f"{level}_dir" for level in LEVELS))
EVERY = (*SOURCES, *FILES)
EMULATED = tuple(name for name in EVERY if "cubin" not in name)
POINTER = {"kind": "pointer", "dtype": "i32", "divisible": True}


def tuned(kernel: Any) -> Any:
    configs = [trun.Config({}, num_warps=warps) for warps in (4, 2)]
    return trun.autotune(configs, key=["addend" if kernel is fill else "flag"], cache_results=False)(kernel)


@dataclass(frozen=True)
class Entry:
    """A way to launch one kernel."""

    name: str
    session: trun.Session
    kernel: Any
    given: dict[str, Any]

    def __call__(self, *arguments: Any, grid: Any = (2,), **more: Any) -> Any:
        return self.kernel[grid](*arguments, BLOCK=128, **{"session": self.session, **self.given, **more})

    def works(self) -> None:
        out = self.session.zeros(256, dtype="int32")
        self(out, 5)
        np.testing.assert_array_equal(out.numpy(), np.arange(256) + 5)


@pytest.fixture(scope="module")
def sessions(daemon_with_gpu: str) -> Iterator[dict[str, trun.Session]]:
    with (
        trun.connect(daemon_with_gpu, device="emulator:0") as emulated,
        trun.connect(daemon_with_gpu, device="cuda:0") as gpu,
    ):
        yield {"emulator": emulated, "cuda": gpu}


@pytest.fixture(scope="module")
def folders(
    sessions: dict[str, trun.Session], tmp_path_factory: pytest.TempPathFactory
) -> dict[tuple[str, str], pathlib.Path]:
    """The files of two kernels, on the device that runs them: (kernel, device)."""
    made = {}
    for kernel, device in ((fill, "emulator"), (k.fill, "cuda"), (endless, "emulator")):
        session = sessions[device]
        compiled = kernel.warmup(session.zeros(256, dtype="int32"), 5, BLOCK=128, session=session)
        folder = made[kernel.__name__, device] = tmp_path_factory.mktemp("files")
        for level in LEVELS:
            if level in compiled.asm:
                content = compiled.asm[level]
                (folder / f"{kernel.__name__}.{level}").write_bytes(
                    content if isinstance(content, bytes) else content.encode()
                )
        (folder / f"{kernel.__name__}.json").write_text(json.dumps(compiled.metadata))
    return made


def entry_of(name: str, sessions: dict[str, trun.Session], folders: Any, kernel: Any = fill) -> Entry:
    device = "cuda" if name.startswith("cubin") else "emulator"
    if name == "gluon":
        return Entry(name, sessions[device], gluon_fill if kernel is fill else gluon_endless, {})
    if name in SOURCES:
        return Entry(name, sessions[device], tuned(kernel) if name == "autotune" else kernel, {})
    folder, level = folders[kernel.__name__, device], name.split("_")[0]
    given: dict[str, Any] = {name: folder}
    if name.endswith("_src"):
        given[name] = (folder / f"{kernel.__name__}.{level}").read_bytes()
        given["metadata_json"] = json.loads((folder / f"{kernel.__name__}.json").read_text())
    return Entry(name, sessions[device], kernel, given)


@pytest.fixture
def entry(request: pytest.FixtureRequest, sessions: dict[str, trun.Session], folders: Any) -> Entry:
    return entry_of(request.param, sessions, folders)


def entries(*names: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("entry", names, indirect=True)


def session_info(session: trun.Session) -> Any:
    listed = session._call("SessionService.ListSessions", session_pb2.ListSessionsRequest()).sessions
    return next(each for each in listed if each.session == session.id)


@pytest.fixture(scope="module")
def other(daemon_with_gpu: str) -> Iterator[tuple[trun.Session, trun.Tensor, int]]:
    with trun.connect(daemon_with_gpu, device="emulator:0") as session:
        held = session.tensor(np.arange(1000, dtype=np.int32))
        fill[(1,)](session.zeros(128, dtype="int32"), 5, BLOCK=128)
        yield session, held, session_info(session).executor_pid


@pytest.fixture(autouse=True)
def bystander(other: tuple[trun.Session, trun.Tensor, int]) -> Iterator[None]:
    """Another session of this daemon: its tensor, its executor and its launches are as they were."""
    yield
    session, held, executor = other
    np.testing.assert_array_equal(held.numpy(), np.arange(1000))
    out = session.zeros(128, dtype="int32")
    fill[(1,)](out, 5, BLOCK=128)
    np.testing.assert_array_equal(out.numpy(), np.arange(128) + 5)
    info = session_info(session)
    assert (info.executor_pid, info.executor_restarts) == (executor, 0)


def line_of(text: str) -> int:
    return next(i for i, line in enumerate(pathlib.Path(FILE).read_text().splitlines(), 1) if text in line)


# Launches.


@entries(*EVERY)
def test_a_wrong_number_of_arguments_is_refused(entry: Entry) -> None:
    out = entry.session.zeros(256, dtype="int32")
    for arguments, words in (
        ((), "missing a required"),
        ((out,), "missing a required"),
        ((out, 5, 6, 7), "too many|multiple values"),
    ):
        with pytest.raises(trun.ArgumentError, match=words):
            entry(*arguments)
    assert not out.numpy().any()
    entry.works()


@entries(*EVERY)
def test_an_argument_of_a_kind_that_no_kernel_takes_is_named(entry: Entry) -> None:
    with pytest.raises(trun.ArgumentError, match=r"'addend' of \w+: a set cannot be passed"):
        entry(entry.session.zeros(256, dtype="int32"), {5})
    entry.works()


@entries(*EVERY)
def test_a_tensor_for_a_number_and_a_number_for_a_tensor_are_refused(entry: Entry) -> None:
    """Source is refused by Triton, at its line; a file by what its signature says, with the argument."""
    out = entry.session.zeros(256, dtype="int32")
    for arguments in ((out, out), (16, 5)):
        with pytest.raises((trun.InvalidIrError, trun.ArgumentError, trun.CompileError)) as caught:
            entry(*arguments)
        if entry.name in FILES:
            assert isinstance(caught.value, trun.ArgumentError) and "argument" in caught.value.details
        elif entry.name == "autotune":
            assert "none of the 2 configurations" in str(caught.value) and f"{FILE}:" in str(caught.value)
        else:
            assert caught.value.file == FILE
            assert caught.value.line == line_of(f"the store of {entry.name}"), str(caught.value)
    assert not out.numpy().any()
    entry.works()


@entries("ttir_src", "ttgir_src", "ttir_dir", "ttgir_dir")
def test_a_tensor_of_another_type_than_the_file_s_is_named(entry: Entry) -> None:
    for dtype in ("float32", "int64", "int8"):
        with pytest.raises(trun.ArgumentError) as caught:
            entry(entry.session.zeros(256, dtype=dtype), 5)
        assert caught.value.details["argument"] == "0" and "i32" in str(caught.value)
    entry.works()


@entries(*FILES)
def test_a_number_that_does_not_fit_the_file_s_is_named(entry: Entry) -> None:
    out = entry.session.zeros(256, dtype="int32")
    for number in (1 << 40,) if "cubin" in entry.name else (2.5, 1 << 40):  # a cubin tells sizes, not types
        with pytest.raises(trun.ArgumentError) as caught:
            entry(out, number)
        assert caught.value.details["argument"] == "1", str(caught.value)
    assert not out.numpy().any()
    entry.works()


@entries(*(name for name in EMULATED if "ptx" not in name))
def test_an_unknown_option_is_named(entry: Entry) -> None:
    """Not for what is no longer compiled: an option has no effect there, and no toolchain is asked."""
    with pytest.raises(trun.CompileError, match="num_wraps"):
        entry(entry.session.zeros(256, dtype="int32"), 5, num_wraps=8)
    entry.works()


@entries(*EVERY)
def test_a_freed_tensor_and_one_of_another_session_are_refused(entry: Entry, other: Any) -> None:
    freed = entry.session.zeros(256, dtype="int32")
    freed.free()
    with pytest.raises(trun.HandleError, match="freed"):
        entry(freed, 5)
    with pytest.raises(trun.ArgumentError, match="another session"):
        entry(other[1], 5)
    entry.works()


@entries(*EVERY)
@pytest.mark.parametrize(
    "grid",
    [(1 << 31,), (1, 70000), (1, 1, 70000), (-1,), (1 << 40,), (1, 1, 1, 1), (), (1.5,), "2", lambda meta: None],
    ids=repr,
)
def test_a_grid_that_cannot_be_is_refused(entry: Entry, grid: Any) -> None:
    out = entry.session.zeros(256, dtype="int32")
    with pytest.raises(trun.ArgumentError, match="grid"):
        entry(out, 5, grid=grid)
    assert not out.numpy().any()


@entries(*EVERY)
def test_a_grid_with_a_zero_launches_nothing_as_with_triton(entry: Entry) -> None:
    out = entry.session.zeros(256, dtype="int32")
    for grid in ((0,), (1, 0), (2, 1, 0)):
        entry(out, 5, grid=grid)
    assert not out.numpy().any()


@entries(*EVERY)
def test_a_memory_quota_is_kept_and_named(entry: Entry, daemon_with_gpu: str) -> None:
    with trun.connect(daemon_with_gpu, device=entry.session.device, memory_limit=8 << 20) as small:
        large = np.zeros(4 << 20, np.int32)
        with pytest.raises(trun.QuotaError) as caught:
            entry(large, 5, session=small)
        assert caught.value.details["limit"] and not large.any()
        out = np.zeros(256, np.int32)
        entry(out, 5, session=small)
        np.testing.assert_array_equal(out, np.arange(256) + 5)


@entries(*EMULATED)
def test_a_store_past_the_end_names_its_line_of_python(entry: Entry) -> None:
    held, short = entry.session.zeros(256, dtype="int32"), entry.session.zeros(255, dtype="int32")
    with pytest.raises(trun.IllegalAddressError) as caught:
        entry(short, 5)
    fault = caught.value.fault
    assert fault is not None and fault.is_write and fault.program == (1, 0, 0)
    assert (fault.nearest_tensor, fault.nearest_tensor_offset, fault.nearest_tensor_bytes) == (short.handle, 1020, 1020)
    line = line_of(f"the store of {'gluon' if entry.name == 'gluon' else 'jit'}")
    assert pathlib.Path(fault.source_file).name == pathlib.Path(FILE).name and fault.source_line == line
    assert f"bad_source_kernels.py:{line}" in str(caught.value) and "argument 0" in str(caught.value)
    assert not held.numpy().any()
    entry.works()


@pytest.mark.parametrize("name", [*SOURCES, "ttir_src", "ptx_dir"])
def test_an_endless_kernel_is_ended_at_its_deadline_and_tensors_are_intact(
    name: str, sessions: dict[str, trun.Session], folders: Any
) -> None:
    bad, good = (entry_of(name, sessions, folders, kernel) for kernel in (endless, fill))
    held, flag = bad.session.tensor(np.arange(500, dtype=np.int32)), bad.session.zeros(1, dtype="int32")
    before = session_info(bad.session).executor_restarts
    started = time.monotonic()
    with pytest.raises(trun.TrunError, match="HUNG_KERNEL"):
        bad(flag, 5, grid=(1,), deadline=0.3)
    assert time.monotonic() - started < 8
    np.testing.assert_array_equal(held.numpy(), np.arange(500))
    good.works()
    assert session_info(bad.session).executor_restarts == before + (2 if name == "autotune" else 1)


@pytest.mark.parametrize("name", [*SOURCES, "ttgir_dir"])
def test_an_executor_killed_under_a_launch_says_so_and_the_next_one_works(
    name: str, sessions: dict[str, trun.Session], folders: Any
) -> None:
    bad, good = (entry_of(name, sessions, folders, kernel) for kernel in (endless, fill))
    held, flag = bad.session.tensor(np.arange(500, dtype=np.int32)), bad.session.zeros(1, dtype="int32")
    before = session_info(bad.session)

    def kill() -> None:
        now = session_info(bad.session)  # one that dies before the launch has reached it is replaced
        if now.launches > before.launches and now.executor_pid > 0:
            os.kill(now.executor_pid, signal.SIGKILL)

    with during(kill), pytest.raises(trun.errors.ExecutorLostError):
        bad(flag, 5, grid=(1,), deadline=20)
    np.testing.assert_array_equal(held.numpy(), np.arange(500))
    good.works()


@contextlib.contextmanager
def during(action: Callable[[], None]) -> Iterator[None]:
    """Does this again and again beside the block."""
    done = threading.Event()

    def work() -> None:
        while not done.wait(0.01):
            with contextlib.suppress(ProcessLookupError):
                action()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def processes(address: str, program: str) -> list[int]:
    """The daemon's workers or front ends."""
    folder = str(pathlib.Path(address.removeprefix("unix:")).parent)
    found = []
    for process in pathlib.Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, UnicodeDecodeError):
            command = (process / "cmdline").read_bytes().decode()
            if program in command and folder in command:
                found.append(int(process.name))
    return found


# Compiles.


@pytest.mark.parametrize("name", [*SOURCES, "ttir_src", "ttgir_dir"])
def test_a_worker_killed_under_a_compile_says_so_and_the_next_compile_works(
    name: str, sessions: dict[str, trun.Session], folders: Any, daemon_with_gpu: str
) -> None:
    entry = entry_of(name, sessions, folders)
    out = entry.session.tensor(np.arange(256, dtype=np.int32))
    fresh: dict[str, Any] = {"enable_fp_fusion": False}  # as no other test has it
    if name in ("jit", "ttir_src"):  # nor they from each other
        fresh["num_warps"] = 8 if name == "jit" else 1

    def kill() -> None:
        for process in processes(daemon_with_gpu, "trun_worker"):
            os.kill(process, signal.SIGKILL)

    with during(kill), pytest.raises(trun.CompileError, match="WORKER_LOST"):
        entry(out, 5, **fresh)
    np.testing.assert_array_equal(out.numpy(), np.arange(256))
    entry(out, 5, **fresh)
    np.testing.assert_array_equal(out.numpy(), np.arange(256) + 5)


@pytest.mark.parametrize("toolchain", ["3.9.0", "3.4.0"])
@pytest.mark.parametrize("name", ["llir_src", "llir_dir"])
def test_llir_that_aborts_llvm_is_a_failed_compile_and_the_pool_refills(
    name: str, toolchain: str, sessions: dict[str, trun.Session], folders: Any, tmp_path: pathlib.Path
) -> None:
    entry = entry_of("llir_src", sessions, folders)
    text = 'target triple = "nvptx64-nvidia-cuda"\ndefine void @fill( {\n'
    (tmp_path / "fill.llir").write_text(text)
    metadata = {**entry.given["metadata_json"], "triton_version": toolchain}
    file: dict[str, Any] = {name: text if name == "llir_src" else tmp_path, "metadata_json": metadata}
    bad = Entry(name, entry.session, fill, {**file, "toolchain": toolchain})
    with pytest.raises(trun.CompileError, match="LLVM ERROR: failed to parse IR") as caught:
        bad(entry.session.zeros(256, dtype="int32"), 5)
    assert (caught.value.reason, caught.value.details["crashed"]) == ("COMPILE_FAILED", "1")
    Entry("jit", entry.session, fill, {"toolchain": toolchain, "num_stages": 1 if name == "llir_src" else 5}).works()


def test_ptx_with_an_unknown_instruction_names_its_line(sessions: dict[str, trun.Session], folders: Any) -> None:
    entry = entry_of("ptx_src", sessions, folders)
    text = entry.given["ptx_src"].decode()
    line = next(i for i, row in enumerate(text.splitlines(), 1) if "st.global" in row)
    bad = Entry("ptx_src", entry.session, fill, {**entry.given, "ptx_src": text.replace("st.global", "frobnicate", 1)})
    out = entry.session.zeros(256, dtype="int32")
    with pytest.raises(trun.CompileError, match="frobnicate") as caught:
        bad(out, 5)
    assert (caught.value.reason, caught.value.line) == ("UNSUPPORTED_INSTRUCTION", line)
    assert not out.numpy().any()


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A folder with 100 MB of every level, which take no room on the disk."""
    folder = tmp_path_factory.mktemp("large")
    for level in LEVELS:
        with open(folder / f"fill.{level}", "wb") as file:
            file.truncate(100_000_000)
    return folder


@entries(*FILES)
def test_a_file_of_100_mb_is_refused_and_the_limit_named(entry: Entry, large: pathlib.Path) -> None:
    file: Any = large if entry.name.endswith("_dir") else bytes(100_000_000)
    with pytest.raises(trun.errors.TooLargeError) as caught:
        entry(entry.session.zeros(256, dtype="int32"), 5, **{entry.name: file})
    assert int(caught.value.details["limit"]) < 100_000_000 and caught.value.details["limit"] in str(caught.value)
    entry.works()


@pytest.mark.parametrize("decorate", [trun.jit, gluon.jit], ids=["jit", "gluon"])
def test_source_of_100_mb_is_refused_and_the_limit_named(decorate: Any, sessions: dict[str, trun.Session]) -> None:
    out = sessions["emulator"].zeros(256, dtype="int32")
    with pytest.raises(trun.errors.TooLargeError) as caught:
        decorate(takes_text)[(1,)](out, "x" * 100_000_000, session=sessions["emulator"])
    assert caught.value.details["limit"] in str(caught.value)


@entries(*FILES)
def test_random_bytes_in_the_place_of_a_file_are_refused(entry: Entry, tmp_path: pathlib.Path) -> None:
    generator = random.Random(entry.name)
    out = entry.session.zeros(256, dtype="int32")
    level = entry.name.split("_")[0]
    if level in ("ttir", "ttgir") and "metadata_json" in entry.given:
        del entry.given["metadata_json"]  # they are read without it, and would be refused for its name
    for size in (0, 1, 200, 5000):
        content = b"\xff" * bool(size) + generator.randbytes(max(size - 1, 0))
        (tmp_path / f"fill.{level}").write_bytes(content)
        file = tmp_path if entry.name.endswith("_dir") else content
        with pytest.raises((trun.InvalidIrError, trun.errors.UnsupportedLevelError), match="INVALID_IR|ELF|empty"):
            entry(out, 5, **{entry.name: file})
    assert not out.numpy().any()
    entry.works()


@entries("ttgir_src", "llir_src", "ptx_src", "cubin_src")
def test_random_bytes_as_metadata_are_refused(entry: Entry) -> None:
    generator = random.Random(entry.name)
    out = entry.session.zeros(256, dtype="int32")
    for metadata in ('{"name": ', "{" + "".join(map(chr, generator.choices(range(33, 127), k=500))), "[" * 100_000):
        with pytest.raises(trun.MetadataError):
            entry(out, 5, metadata_json="{" + metadata)
    assert not out.numpy().any()
    entry.works()


# Source that is no kernel, or wants more than to be one: as text, which is how a file reaches the front end.


def text_bundle(statement: str, level: str) -> bytes:
    """A file whose third line is `statement`, which binds X."""
    if level == "python":
        head, decorator, store = "import triton\nimport triton.language as tl", "@triton.jit", "tl.store(p, X)"
    else:
        head = "from triton.experimental import gluon\nfrom triton.experimental.gluon import language as gl"
        decorator, store = "@gluon.jit", "gl.store(p, X)"
    source = f"{head}\n{statement}\n{decorator}\ndef k(p):\n    {store}\n"
    text = {"file": "/home/user/kernel.py", "source": source, "function": "k"}
    return json.dumps({"format": 1, "text": text, "arguments": {"p": POINTER}}).encode()


def loads(session: trun.Session, level: str) -> bool:
    language = "tl" if level == "python" else "gl"
    return session.load(text_bundle(f"X = {language}.constexpr(1)", level), level=level).name == "k"


@pytest.mark.parametrize("level", ["python", "gluon"])
@pytest.mark.parametrize("statement", ["X = = 1", "X = (1", "  X = 1", "def x(:", "X = 1\0"])
def test_a_syntax_error_names_file_line_and_column(
    sessions: dict[str, trun.Session], level: str, statement: str
) -> None:
    with pytest.raises(trun.InvalidIrError, match="SyntaxError|IndentationError|null bytes") as caught:
        sessions["emulator"].load(text_bundle(statement, level), level=level)
    assert caught.value.details["file"] == "/home/user/kernel.py"
    if "\0" not in statement:  # Python itself gives no place for these
        lines = str(caught.value).splitlines()
        at = lines.index(statement)
        assert (caught.value.line, caught.value.column) == (3, len(lines[at + 1])), caught.value.details
        assert lines[at + 1].strip() == "^" and f"/home/user/kernel.py:3:{caught.value.column}: " in lines[at - 1]
    assert loads(sessions["emulator"], level)


@pytest.mark.parametrize("level", ["python", "gluon"])
def test_a_row_of_any_alphabet_is_shown_as_it_is_with_a_caret_under_its_place(
    sessions: dict[str, trun.Session], level: str
) -> None:
    session = sessions["emulator"]
    statement = 'X = "größer \u2265 行列 \U0001f600"; Y = = 1'
    with pytest.raises(trun.InvalidIrError) as caught:
        session.load(text_bundle(statement, level), level=level)
    lines = str(caught.value).splitlines()
    at = lines.index(statement)
    assert lines[at + 1] == " " * statement.rindex("=") + "^", "under the character"
    assert caught.value.column == len(statement[: statement.rindex("=")].encode()) + 1, "a number of bytes"

    def refused(row: str) -> list[str]:
        bundle = json.loads(text_bundle("X = 1", level))
        text = bundle["text"]
        text["source"] = text["source"][: text["source"].rindex("    ")] + f"    {row}\n"
        with pytest.raises(trun.InvalidIrError) as caught:
            session.load(json.dumps(bundle).encode(), level=level)
        assert caught.value.line == 6 and caught.value.details["file"] == "/home/user/kernel.py"
        return str(caught.value).splitlines()

    row = "größe行 = 2; fehlt(größe行)  # größer \u2265 0"
    lines = refused(row)
    at = lines.index(f"    {row}")
    assert lines[at + 1] == " " * (4 + row.index("fehlt")) + "^", lines
    language = "tl" if level == "python" else "gl"
    # Half a surrogate pair is no character, and no UTF-8 has it.
    assert any(
        "行列 ? \u2265 0" in line for line in refused(f"{language}.static_assert(1 > 2, '行列 \\ud800 \u2265 0')")
    )
    assert loads(session, level)


@pytest.mark.parametrize("level", ["python", "gluon"])
def test_random_bytes_as_source_are_refused(sessions: dict[str, trun.Session], level: str) -> None:
    generator = random.Random(level)
    session = sessions["emulator"]
    for size in (0, 1, 200, 5000):
        text = "".join(map(chr, generator.choices(range(33, 127), k=size)))
        for content in (generator.randbytes(size), text.encode(), text_bundle(text, level)[: size or 7]):
            with pytest.raises(trun.InvalidIrError):
                session.load(content, level=level)
    for text in ("".join(map(chr, generator.choices(range(33, 127), k=500))), "(" * 100_000, "-" * 100_000 + "1"):
        with pytest.raises(trun.CompileError) as caught:
            session.load(text_bundle(f"X = {text}", level), level=level)
        assert caught.value.reason in ("INVALID_IR", "COMPILE_FAILED", "COMPILE_OUT_OF_MEMORY"), caught.value
    assert loads(session, level)


@pytest.mark.parametrize("level", ["python", "gluon"])
@pytest.mark.parametrize(
    ("statement", "error", "words"),
    [
        ("import torch; X = torch.pi", trun.InvalidIrError, "No module named 'torch'"),
        ("X = open('/etc/passwd').read()", trun.NotPermittedError, "Permission denied"),
        ("import socket; X = socket.create_connection(('127.0.0.1', 1))", trun.NotPermittedError, "not permitted"),
        ("import os; X = os.fork()", trun.NotPermittedError, "not permitted"),
        ("import subprocess; X = subprocess.run(['true'])", trun.NotPermittedError, "not permitted"),
        ("import os; X = os._exit(3)", trun.CompileError, "exit code 3"),
    ],
    ids=["import", "file", "socket", "fork", "program", "exit"],
)
def test_source_that_wants_more_than_lowering_is_told_so(
    sessions: dict[str, trun.Session], level: str, statement: str, error: type[trun.TrunError], words: str
) -> None:
    with pytest.raises(error, match=words) as caught:
        sessions["emulator"].load(text_bundle(statement, level), level=level)
    if "exit" not in words:
        assert (caught.value.details["file"], caught.value.line) == ("/home/user/kernel.py", 3)
    assert loads(sessions["emulator"], level)


@pytest.mark.parametrize("level", ["python", "gluon"])
def test_source_that_loops_for_ever_is_cut_at_the_deadline(sessions: dict[str, trun.Session], level: str) -> None:
    with pytest.raises(trun.CompileTimeoutError, match="loop for ever"):
        sessions["emulator"].load(text_bundle("for X in iter(int, 1): pass", level), level=level, deadline=1)
    assert loads(sessions["emulator"], level)


@pytest.mark.parametrize("kernel", [fill, gluon_fill], ids=["jit", "gluon"])
def test_a_compile_past_its_deadline_is_ended(sessions: dict[str, trun.Session], kernel: Any) -> None:
    session = sessions["emulator"]
    bundle = kernel.bundle({"out_ptr": POINTER, "addend": {"kind": "scalar", "dtype": "i32"}, "BLOCK": BLOCK})
    level = "gluon" if kernel is gluon_fill else "python"
    with pytest.raises(trun.CompileTimeoutError, match="COMPILE_TIMEOUT"):
        session.load(bundle, level=level, recompile=True, deadline=0.01)
    assert session.load(bundle, level=level, recompile=True).name == kernel.__name__


BLOCK = {"kind": "constexpr", "value": 256}


def test_a_configuration_on_which_the_compiler_aborts_is_passed_over(sessions: dict[str, trun.Session]) -> None:
    """Triton 3.2 does on a matmul over two CTAs. The other compile goes on, and the pool is whole."""
    session = sessions["emulator"]
    if "3.2.0" not in [t.name for t in session.toolchains()]:
        pytest.skip("Triton 3.2.0 is not installed")
    configs = [trun.Config({}, num_ctas=2), trun.Config({}, num_warps=2)]
    kernel = trun.autotune(configs, key=["n"], cache_results=False)(k.matmul)
    a, out = session.tensor(np.eye(32, dtype=np.float16) * 3), session.zeros((32, 32))
    sizes = {"BLOCK_M": 32, "BLOCK_N": 32, "BLOCK_K": 32, "EVEN_K": True}
    kernel[(1, 1)](a, a, out, 32, 32, 32, 32, 32, 32, **sizes, toolchain="3.2.0")
    np.testing.assert_array_equal(out.numpy(), np.eye(32) * 9)
    (tuning,) = kernel.tunings.values()
    assert tuning.config is configs[1] and tuning.is_whole
    assert "COMPILE_FAILED" in tuning.errors[configs[0]] and "Aborted" in tuning.errors[configs[0]]
    with pytest.raises(trun.CompileError, match="none of the 1 configurations|Aborted"):
        trun.autotune(configs[:1], key=[], cache_results=False)(k.matmul)[(1, 1)](
            a, a, out, 32, 32, 32, 32, 32, 32, **sizes, toolchain="3.2.0"
        )
