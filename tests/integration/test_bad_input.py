"""What bad input gets: a clear status with a reason, the daemon up, nothing lost, other sessions untouched.

One row stands elsewhere: 30 s where a launch names no deadline (server/session/session_test.cc).
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import kernels
import numpy as np
import pytest
from daemon import CallError, Daemon, Session, wait_until
from footprint import difference, footprint
from trun.v1 import kernel_pb2, launch_pb2, session_pb2, tensor_pb2

CODE = grpc.StatusCode


@contextlib.contextmanager
def untouched(daemon: Daemon) -> Iterator[None]:
    """Another session with a tensor: after what happens here it must be as it was, and the daemon must still work."""
    other = daemon.open_session()
    data = np.arange(1024, dtype=np.int32)
    held = other.tensor(data)
    pid = daemon.process.pid
    yield
    assert daemon.process.poll() is None and daemon.process.pid == pid, "trund died"
    assert other.read(held.tensor) == data.tobytes()
    kernel = other.compile(kernels.STORE, "ptx", metadata_json=kernels.metadata("store")).kernel
    other.launch(kernel, (1,), held, 0)
    data[:32] = np.arange(32)
    assert other.read(held.tensor) == data.tobytes()
    assert other.info().executor_restarts == 0, "a bystander's executor was restarted"
    other.close()


@pytest.fixture(autouse=True)
def bystander(daemon: Daemon) -> Iterator[None]:
    with untouched(daemon):
        yield


def expect(code: grpc.StatusCode, reason: str, *mentions: str) -> Any:
    class Expectation:
        error: CallError

        def __enter__(self) -> Any:
            return self

        def __exit__(self, kind: Any, error: Any, trace: Any) -> bool:
            assert error is not None, f"the call succeeded; {code.name}/{reason} was due"
            if not isinstance(error, CallError):
                return False
            assert (error.code, error.reason) == (code, reason), str(error)
            for text in mentions:
                assert text in error.message, f"'{text}' is not in: {error.message}"
            self.error = error
            return True

    return Expectation()


def store_kernel(session: Session) -> str:
    return session.compile(kernels.STORE, "ptx", metadata_json=kernels.metadata("store")).kernel


# -- files --


@pytest.mark.parametrize("level", ["ttir", "ttgir"])
def test_ir_that_does_not_parse_names_line_and_column(session: Session, level: str) -> None:
    body = '    %0 = "no.such.op"(%arg1) : (i32) -> i32\n    tt.return\n'
    text = "module {\n  tt.func public @f(%arg0: i32) {\n" + body + "  }\n}\n"
    with expect(CODE.INVALID_ARGUMENT, "INVALID_IR") as caught:
        session.compile(text, level, target="sm_80")
    assert caught.error.details.get("line") == "3", caught.error.details
    assert int(caught.error.details["column"]) > 0


def test_ptx_that_does_not_parse_names_line_and_column(session: Session) -> None:
    text = kernels.STORE.replace("mov.u32 %r2, %tid.x;", "mov.u32 %r2 %tid.x;")
    at = text.index("%tid.x;")
    with expect(CODE.INVALID_ARGUMENT, "INVALID_IR") as caught:
        session.compile(text, "ptx", metadata_json=kernels.metadata("store"))
    where = (text[:at].count("\n") + 1, at - text.rindex("\n", 0, at))
    assert (int(caught.error.details["line"]), int(caught.error.details["column"])) == where


@pytest.mark.parametrize("toolchain", ["3.4.0", "3.9.0"])
def test_llir_that_aborts_llvm_is_a_failed_compile_with_the_log_and_the_pool_refills(
    session: Session, toolchain: str
) -> None:
    text = 'target triple = "nvptx64-nvidia-cuda"\ndefine void @f( {\n'
    fields = {"target": "sm_80", "metadata_json": kernels.metadata("f"), "recompile": True, "toolchain": toolchain}
    for _ in range(2):
        with expect(CODE.FAILED_PRECONDITION, "COMPILE_FAILED", "Aborted", "LLVM ERROR: failed to parse IR") as caught:
            session.compile(text, "llir", **fields)
        assert caught.error.details.get("crashed") == "1"
    assert session.compile(kernels.example("vector_add.ttir"), "ttir", recompile=True, toolchain=toolchain).kernel


def test_a_compile_past_its_deadline_is_ended(session: Session) -> None:
    from google.protobuf.duration_pb2 import Duration

    started = time.monotonic()
    with expect(CODE.DEADLINE_EXCEEDED, "COMPILE_TIMEOUT"):
        session.compile(kernels.example("matmul.ttir"), "ttir", recompile=True, deadline=Duration(nanos=5_000_000))
    assert time.monotonic() - started < 5
    assert session.compile(kernels.example("vector_add.ttir"), "ttir", recompile=True).kernel


def test_a_compile_past_its_memory_is_ended_and_the_limit_named(
    daemon: Daemon, tmp_path_factory: pytest.TempPathFactory
) -> None:
    # A daemon of its own: no compile fits its limit, and a file that needs none is still answered.
    small = Daemon(tmp_path_factory.mktemp("small"), daemon.build, daemon.toolchains, "--compile-memory", "8MiB")
    small.start()
    try:
        session = small.open_session()
        with untouched(small):
            for _ in range(2):
                with expect(CODE.RESOURCE_EXHAUSTED, "COMPILE_OUT_OF_MEMORY", "8 MiB") as caught:
                    session.compile(kernels.example("vector_add.ttir"), "ttir", recompile=True)
                assert caught.error.details["limit"] == str(8 << 20)
        held = session.tensor(np.zeros(32, dtype=np.int32))
        session.launch(store_kernel(session), (1,), held, 0)
        assert session.read(held.tensor) == np.arange(32, dtype=np.int32).tobytes()
        session.close()
    finally:
        assert small.stop() == 0


def test_ptx_with_an_unknown_instruction_names_its_line(session: Session) -> None:
    line = kernels.UNKNOWN_INSTRUCTION[: kernels.UNKNOWN_INSTRUCTION.index("frobnicate")].count("\n") + 1
    with expect(CODE.UNIMPLEMENTED, "UNSUPPORTED_INSTRUCTION", "frobnicate") as caught:
        session.compile(kernels.UNKNOWN_INSTRUCTION, "ptx", metadata_json=kernels.metadata("store"))
    assert caught.error.details.get("line") == str(line)


def test_a_cubin_does_not_run_on_the_emulator(session: Session) -> None:
    with expect(CODE.FAILED_PRECONDITION, "UNSUPPORTED_LEVEL", "emulator"):
        kernel = session.compile(b"\x7fELF" + bytes(200), "cubin", metadata_json=kernels.metadata("f")).kernel
        session.launch(kernel, (1,))


def test_a_real_cubin_does_not_run_on_the_emulator(session: Session) -> None:
    made = session.compile(
        kernels.example("vector_add.ttir"), "ttir", target="sm_90", last_level=kernel_pb2.LEVEL_CUBIN
    )
    cubin = session.artifact(made.kernel, "cubin")
    assert cubin[:4] == b"\x7fELF"
    with expect(CODE.FAILED_PRECONDITION, "UNSUPPORTED_LEVEL", "emulator"):
        session.compile(cubin, "cubin", metadata_json=made.info.metadata_json)


@pytest.mark.parametrize("level", ["python", "ttir", "ttgir", "llir", "ptx"])
def test_an_empty_file_is_refused(session: Session, level: str) -> None:
    with expect(CODE.INVALID_ARGUMENT, "INVALID_IR", "empty"):
        session.compile(b"", level)


def test_an_empty_cubin_is_refused(session: Session) -> None:
    with expect(CODE.FAILED_PRECONDITION, "UNSUPPORTED_LEVEL", "emulator"):
        session.compile(b"", "cubin")
    with expect(CODE.INVALID_ARGUMENT, "INVALID_IR", "empty"):
        session.compile(b"", "cubin", target="sm_90", last_level=kernel_pb2.LEVEL_CUBIN)


def test_a_file_of_100_mb_is_refused_and_the_limit_named(session: Session) -> None:
    with expect(CODE.RESOURCE_EXHAUSTED, "TOO_LARGE") as caught:
        session.compile(b"", "ttir", digest=session.upload(b" " * 100_000_000))
    assert "limit" in caught.error.details


@pytest.mark.parametrize("level", ["python", "gluon", "ttir", "ttgir", "llir", "ptx", "cubin"])
def test_random_bytes_are_refused_at_every_level(session: Session, level: str) -> None:
    generator = random.Random(level)
    fields: dict[str, Any] = {"target": "sm_80", "toolchain": "3.9.0"}
    if level in ("llir", "ptx", "cubin"):  # the others are read without it, and would be refused for its name
        fields["metadata_json"] = kernels.metadata("f")
    if level == "cubin":  # for a GPU, else its bytes are not looked at
        fields["last_level"] = kernel_pb2.LEVEL_CUBIN
    for size in (1, 200, 5000):
        with expect(CODE.INVALID_ARGUMENT, "INVALID_IR"):
            session.compile(b"\xff" + generator.randbytes(size - 1), level, **fields)
    # Random text gets as far as the parsers; LLVM's aborts.
    refusal = (CODE.FAILED_PRECONDITION, "COMPILE_FAILED") if level == "llir" else (CODE.INVALID_ARGUMENT, "INVALID_IR")
    for size in (1, 200, 5000):
        with expect(*refusal):
            session.compile("".join(chr(generator.randrange(33, 127)) for _ in range(size)), level, **fields)


def test_missing_metadata_names_the_key(session: Session) -> None:
    # What is launched with cannot be read from this PTX alone: nothing says how much shared memory it wants.
    text = kernels.ptx("f", "  .param .u64 p", "  ret;", ".extern .shared .align 16 .b8 global_smem[];")
    with expect(CODE.INVALID_ARGUMENT, "METADATA", "shared") as caught:
        session.compile(text, "ptx")
    assert caught.error.details.get("key") == "shared"


@pytest.mark.parametrize(
    "changes", [{"num_warps": 4}, {"name": "other"}, {"target": {"backend": "cuda", "arch": 90, "warp_size": 32}}]
)
def test_metadata_that_contradicts_the_artifact_is_refused(session: Session, changes: dict[str, Any]) -> None:
    with expect(CODE.INVALID_ARGUMENT, "METADATA"):
        session.compile(kernels.STORE, "ptx", metadata_json=kernels.metadata("store", **changes))


@pytest.mark.parametrize(
    ("level", "changes", "key"),
    [
        ("ttir", {"name": "other"}, "name"),
        ("ttgir", {"name": "other"}, "name"),
        ("ttgir", {"num_warps": 2}, "num_warps"),
        ("ttgir", {"num_ctas": 2}, "num_ctas"),
        ("ttgir", {"target": {"backend": "cuda", "arch": 90, "warp_size": 32}}, "target"),
        ("llir", {"name": "other"}, "name"),
        ("llir", {"num_warps": 2}, "num_warps"),
    ],
)
def test_metadata_that_contradicts_what_a_compiler_takes_is_refused(
    session: Session, level: str, changes: dict[str, Any], key: str
) -> None:
    made = session.compile(kernels.example("vector_add.ttir"), "ttir").kernel
    text = kernels.example("vector_add.ttir").encode() if level == "ttir" else session.artifact(made, level)
    right = {"num_warps": 4, "triton_version": "3.9.0"}
    assert session.compile(text, level, metadata_json=kernels.metadata("vector_add", **right)).kernel
    with expect(CODE.INVALID_ARGUMENT, "METADATA") as caught:
        session.compile(text, level, metadata_json=kernels.metadata("vector_add", **{**right, **changes}))
    assert caught.error.details.get("key") == key


def test_metadata_that_is_no_json_is_refused(session: Session) -> None:
    with expect(CODE.INVALID_ARGUMENT, "METADATA"):
        session.compile(kernels.STORE, "ptx", metadata_json='{"name": ')


def test_an_unknown_compile_option_is_named_and_the_known_ones_listed(session: Session) -> None:
    with expect(CODE.INVALID_ARGUMENT, "UNKNOWN_OPTION", "num_wraps", "num_warps") as caught:
        session.compile(kernels.example("vector_add.ttir"), "ttir", options={"num_wraps": "8"})
    assert caught.error.details["option"] == "num_wraps"


def test_an_unknown_toolchain_names_the_command_that_installs_it(session: Session) -> None:
    with expect(CODE.NOT_FOUND, "TOOLCHAIN_NOT_FOUND", "toolchains install 2.9.9"):
        session.compile(kernels.example("vector_add.ttir"), "ttir", toolchain="2.9.9")


# -- launches --


def test_a_wrong_number_of_arguments_is_refused(session: Session) -> None:
    kernel, out = store_kernel(session), session.allocate("int32", 64)
    for arguments in ((), (out,), (out, 0, 0)):
        with expect(CODE.INVALID_ARGUMENT, "ARGUMENT"):
            session.launch(kernel, (1,), *arguments)


def test_a_wrong_kind_of_argument_names_its_position(session: Session) -> None:
    kernel, out = store_kernel(session), session.allocate("int32", 64)
    with expect(CODE.INVALID_ARGUMENT, "ARGUMENT") as caught:
        session.launch(kernel, (1,), out, out)
    assert caught.error.details["argument"] == "1"
    with expect(CODE.INVALID_ARGUMENT, "ARGUMENT") as caught:
        session.launch(kernel, (1,), 7, 0)
    assert caught.error.details["argument"] == "0"


def test_an_integer_that_does_not_fit_is_refused(session: Session) -> None:
    kernel, out = store_kernel(session), session.allocate("int32", 64)
    with expect(CODE.INVALID_ARGUMENT, "ARGUMENT"):
        session.launch(kernel, (1,), out, 1 << 40)


def test_a_wrong_dtype_names_the_argument(session: Session) -> None:
    kernel = session.compile(kernels.example("vector_add.ttir"), "ttir").kernel
    x, y, out = (session.allocate(t, 1024) for t in ("float32", "float16", "float32"))
    with expect(CODE.INVALID_ARGUMENT, "ARGUMENT", "f32", "f16") as caught:
        session.launch(kernel, (1,), x, y, out, 1024)
    assert caught.error.details["argument"] == "1"


def test_a_freed_handle_is_refused(session: Session) -> None:
    kernel, out = store_kernel(session), session.allocate("int32", 64)
    session.free(out.tensor)
    with expect(CODE.NOT_FOUND, "HANDLE"):
        session.launch(kernel, (1,), out, 0)
    with expect(CODE.NOT_FOUND, "HANDLE"):
        session.free(out.tensor)


def test_handles_of_another_session_mean_nothing(daemon: Daemon, session: Session) -> None:
    other = daemon.open_session()
    theirs, their_kernel = other.allocate("int32", 64), store_kernel(other)
    with expect(CODE.NOT_FOUND, "HANDLE"):
        session.launch(store_kernel(session), (1,), theirs, 0)
    with expect(CODE.NOT_FOUND, "HANDLE"):
        session.launch(their_kernel, (1,), session.allocate("int32", 64), 0)
    with expect(CODE.NOT_FOUND, "HANDLE"):
        session.read(theirs.tensor)
    other.close()


@pytest.mark.parametrize(
    "grid", [(0,), (1, 0), (1, 1, 0), (0, 0, 0), (1, 70000), (1, 1, 70000), (1 << 31,), (), (1, 1, 1, 1)]
)
def test_a_zero_or_oversized_grid_is_refused(session: Session, grid: tuple[int, ...]) -> None:
    kernel, out = store_kernel(session), session.allocate("int32", 64)
    with expect(CODE.INVALID_ARGUMENT, "LAUNCH_SHAPE"):
        session.launch(kernel, grid, out, 0)


@pytest.mark.parametrize("level", ["ttir", "ttgir", "llir", "ptx"])
def test_too_much_shared_memory_is_refused_at_every_level(session: Session, level: str) -> None:
    """From source: client/python/tests/test_launch_details.py."""
    text = kernels.example("matmul_fp16.ttir")
    fits = session.compile(text, "ttir", options={"num_stages": "2"})
    right: dict[str, Any] = {"ir": text, "options": {"num_stages": "2"}}
    wrong: dict[str, Any] = {"ir": text, "options": {"num_stages": "30"}}
    if level == "ttgir":  # which says nothing of shared memory, until it is lowered: whether it was before or not
        with expect(CODE.INVALID_ARGUMENT, "LAUNCH_SHAPE"):
            session.compile(level="ttir", toolchain="3.9.0", **wrong)
        made = session.compile(text, "ttir", options={"num_stages": "30"}, last_level=kernel_pb2.LEVEL_TTGIR)
        right, wrong = {"ir": session.artifact(fits.kernel, level)}, {"ir": session.artifact(made.kernel, level)}
    elif level in ("llir", "ptx"):
        given = json.loads(fits.info.metadata_json)
        right = {"ir": session.artifact(fits.kernel, level), "metadata_json": json.dumps(given)}
        wrong = {**right, "metadata_json": json.dumps({**given, "shared": 1 << 20})}
    before = session.info().kernels
    with expect(CODE.INVALID_ARGUMENT, "LAUNCH_SHAPE", "num_stages", "166912") as caught:
        session.compile(level=level, target="sm_80", toolchain="3.9.0", **wrong)
    assert caught.error.details["limit"] == "166912" and int(caught.error.details["bytes"]) > 166912
    assert session.info().kernels == before
    assert session.compile(level=level, target="sm_80", toolchain="3.9.0", **right).kernel


def test_a_memory_quota_is_kept_and_named(daemon: Daemon) -> None:
    small = daemon.open_session(memory_limit_bytes=8 << 20)
    held = small.allocate("int8", 4 << 20)
    with expect(CODE.RESOURCE_EXHAUSTED, "QUOTA") as caught:
        small.allocate("int8", 8 << 20)
    assert "limit" in caught.error.details
    small.free(held.tensor)
    assert small.allocate("int8", 6 << 20)
    small.close()


@pytest.mark.parametrize("shape", [(0,), (1 << 62, 16), (-1 % (1 << 64),)])
def test_absurd_shapes_are_refused(session: Session, shape: tuple[int, ...]) -> None:
    with pytest.raises(CallError) as caught:
        session.allocate("float32", *shape)
    assert caught.value.code in (CODE.INVALID_ARGUMENT, CODE.RESOURCE_EXHAUSTED)


# -- faults --


def test_a_store_one_element_past_the_allocation_is_found(session: Session) -> None:
    kernel, data = store_kernel(session), np.full(64, -1, dtype=np.int32)
    out = session.tensor(data)
    session.launch(kernel, (1,), out, 32)  # thread 31 stores at [63]: the last element
    line = kernels.STORE[: kernels.STORE.index("st.global")].count("\n") + 1
    with pytest.raises(CallError) as caught:
        session.launch(kernel, (1,), out, 33)
    assert (caught.value.code, caught.value.reason) == (CODE.OUT_OF_RANGE, "ILLEGAL_ADDRESS"), str(caught.value)
    fault = caught.value.fault
    assert fault is not None
    assert fault.instruction.startswith("st.global.b32")
    assert fault.ptx_line == line
    assert list(fault.thread) == [31, 0, 0] and list(fault.program) == [0, 0, 0]
    assert fault.is_write and fault.space == "global"
    assert fault.nearest_tensor == out.tensor
    assert fault.nearest_tensor_offset == 256 and fault.nearest_tensor_bytes == 256
    assert fault.kernel_name == "store"
    # The session goes on, and the error is not blamed on the next launch.
    session.launch(kernel, (1,), out, 0)
    assert np.frombuffer(session.read(out.tensor), dtype=np.int32)[:32].tolist() == list(range(32))


@pytest.mark.parametrize(("name", "told"), [("größe 行.py".encode(), "größe 行.py"), (b"gr\xf6\xdfe.py", "gr??e.py")])
def test_text_out_of_a_file_arrives_as_utf8_with_what_is_none_replaced(
    session: Session, name: bytes, told: str
) -> None:
    text = kernels.STORE_BLOCKS.encode().replace(b"store.py", name)
    kernel = session.compile(text, "ptx", metadata_json=kernels.metadata("store_blocks")).kernel
    with expect(CODE.OUT_OF_RANGE, "ILLEGAL_ADDRESS", f"{told}:7") as caught:
        session.launch(kernel, (3,), session.allocate("int32", 96), 1)
    assert caught.error.fault is not None and caught.error.fault.source_file.endswith(told)
    broken = kernels.STORE.encode().replace(b"mul.wide", b'"' + name + b'" mul.wide')
    with expect(CODE.INVALID_ARGUMENT, "INVALID_IR"):
        session.compile(broken, "ptx", metadata_json=kernels.metadata("store"))


def test_a_store_past_the_allocation_names_the_program_that_did_it_and_the_line_of_the_source(session: Session) -> None:
    given = kernels.metadata("store_blocks")
    kernel = session.compile(kernels.STORE_BLOCKS, "ptx", metadata_json=given).kernel
    out = session.allocate("int32", 96)
    session.launch(kernel, (3,), out, 0)
    with expect(CODE.OUT_OF_RANGE, "ILLEGAL_ADDRESS", "store.py:7") as caught:
        session.launch(kernel, (3,), out, 1)  # thread 31 of the last program stores at [96]
    fault = caught.error.fault
    assert fault is not None
    assert list(fault.program) == [2, 0, 0] and list(fault.thread) == [31, 0, 0]
    assert (fault.source_file, fault.source_line) == ("store.py", 7)
    assert fault.nearest_tensor == out.tensor and fault.nearest_tensor_offset == 384


def test_a_fault_of_a_launch_nobody_waited_for_is_reported_once_with_its_sequence(session: Session) -> None:
    kernel, out = store_kernel(session), session.allocate("int32", 64)
    session.launch(kernel, (1,), out, 0, wait=False)
    bad = session.launch(kernel, (1,), out, 33, wait=False)
    session.launch(kernel, (1,), out, 1, wait=False)
    with expect(CODE.OUT_OF_RANGE, "ILLEGAL_ADDRESS") as caught:
        session.synchronize()
    assert caught.error.fault is not None and caught.error.fault.sequence == bad.sequence
    session.synchronize()


def test_an_endless_kernel_is_ended_at_its_deadline_and_tensors_are_intact(session: Session) -> None:
    data = np.arange(4096, dtype=np.int32)
    held, flag = session.tensor(data), session.allocate("int32", 8)
    endless = session.compile(kernels.ENDLESS, "ptx", metadata_json=kernels.metadata("endless")).kernel
    started = time.monotonic()
    with expect(CODE.DEADLINE_EXCEEDED, "HUNG_KERNEL"):
        session.launch(endless, (1,), flag, deadline=0.5)
    assert time.monotonic() - started < 5
    kernel = store_kernel(session)
    session.launch(kernel, (1,), held, 0)
    assert session.read(held.tensor) == data.tobytes()
    assert session.info().executor_restarts == 1


def test_a_grid_that_no_lifetime_is_enough_for_ends_at_its_deadline_and_takes_no_memory(session: Session) -> None:
    kernel, out = store_kernel(session), session.allocate("int32", 64)
    session.launch(kernel, (1,), out, 0)
    executor = session.info().executor_pid
    peaks, ended = [peak_memory(executor)], threading.Event()

    def watch() -> None:
        with contextlib.suppress(OSError):  # where the executor is gone first
            while not ended.wait(0.01):
                peaks.append(peak_memory(executor))

    watcher = threading.Thread(target=watch)
    watcher.start()
    started = time.monotonic()
    with expect(CODE.DEADLINE_EXCEEDED, "HUNG_KERNEL"):
        session.launch(kernel, ((1 << 31) - 1, 65535, 65535), out, 0, deadline=0.5)
    assert time.monotonic() - started < 5
    ended.set()
    watcher.join()
    assert len(peaks) > 3 and max(peaks) < peaks[0] + (64 << 20), peaks[::10]
    session.launch(kernel, (1,), out, 0)
    assert np.frombuffer(session.read(out.tensor), dtype=np.int32)[:32].tolist() == list(range(32))
    assert session.info().executor_restarts == 1


def peak_memory(pid: int) -> int:
    """The most bytes that a process had resident so far."""
    rows = Path(f"/proc/{pid}/status").read_text().splitlines()
    row = next((row for row in rows if row.startswith("VmHWM:")), None)
    if row is None:
        raise ProcessLookupError(pid)  # a zombie
    return int(row.split()[1]) << 10


# -- death --


def test_an_executor_killed_under_a_launch_says_so_and_the_next_one_works(session: Session) -> None:
    data = np.arange(4096, dtype=np.int32)
    held, flag = session.tensor(data), session.allocate("int32", 8)
    address = held.device_address
    endless = session.compile(kernels.ENDLESS, "ptx", metadata_json=kernels.metadata("endless")).kernel
    call = session.daemon.launches.Launch.future(
        launch_pb2.LaunchRequest(
            session=session.id,
            kernel=endless,
            grid=[1],
            wait=True,
            arguments=[launch_pb2.LaunchArgument(tensor=launch_pb2.TensorReference(tensor=flag.tensor))],
        ),
        timeout=60,
    )
    wait_until(lambda: session.info().launches >= 1, "the launch being counted")
    os.kill(session.info().executor_pid, signal.SIGKILL)
    with expect(CODE.UNAVAILABLE, "EXECUTOR_LOST"):
        try:
            call.result()
        except grpc.RpcError as error:
            raise CallError(error) from None
    kernel = store_kernel(session)
    session.launch(kernel, (1,), held, 0)
    assert session.read(held.tensor) == data.tobytes()
    listed = session.daemon.tensors.ListTensors(tensor_pb2.ListTensorsRequest(session=session.id))
    assert address in [t.device_address for t in listed.tensors]


def test_a_worker_killed_under_a_compile_says_so_and_the_next_one_works(session: Session) -> None:
    text = kernels.example("matmul.ttir")

    def killed_after_the_first_stage() -> CallError | None:
        try:
            for event in session.compile_stream(text, "ttir", recompile=True):
                if event.WhichOneof("event") == "stage_done":
                    for pid, command in session.daemon.children().items():
                        if "trun_worker" in command:
                            os.kill(pid, signal.SIGKILL)
        except CallError as error:
            return error
        return None  # the compile was faster

    tries = (killed_after_the_first_stage() for _ in range(20))
    error = next((error for error in tries if error is not None), None)
    assert error is not None, "no kill hit a worker at work"
    assert (error.code, error.reason) == (CODE.UNAVAILABLE, "WORKER_LOST"), str(error)
    assert session.compile(text, "ttir", recompile=True).kernel


def test_a_front_end_killed_under_a_compile_says_so_and_the_next_one_works(session: Session) -> None:
    stopping = threading.Event()

    def kill_front_ends() -> None:
        # All of them: a source whose front end was killed is lowered again, a few times.
        while not stopping.is_set():
            for pid, command in session.daemon.children().items():
                if "trun_frontend" in command:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)

    held = session.tensor(np.arange(128, dtype=np.float32))
    kernel = session.compile(kernels.SOURCE_BUNDLE, "python").kernel
    killer = threading.Thread(target=kill_front_ends)
    killer.start()
    try:
        with expect(CODE.UNAVAILABLE, "WORKER_LOST"):
            session.compile(kernels.SOURCE_BUNDLE, "python", recompile=True)
    finally:
        stopping.set()
        killer.join()
    session.launch(kernel, (1,), held, 128)
    again = session.compile(kernels.SOURCE_BUNDLE, "python", recompile=True).kernel
    session.launch(again, (1,), held, 128)
    assert session.read(held.tensor) == (4 * np.arange(128, dtype=np.float32)).tobytes()


def test_a_ptxas_killed_under_a_compile_says_so_and_the_next_compile_works(session: Session) -> None:
    fields = {"target": "sm_90", "last_level": kernel_pb2.LEVEL_CUBIN}
    text = kernels.example("matmul.ttir")
    stopping = threading.Event()

    def kill_ptxas() -> None:
        while not stopping.is_set():
            for pid, command in session.daemon.children().items():
                if command.split(" ")[0].endswith(("/ptxas", "/ptxas-blackwell")):
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)

    killer = threading.Thread(target=kill_ptxas)
    killer.start()
    seen = False
    try:
        for _ in range(20):
            try:
                session.compile(text, "ttir", recompile=True, **fields)
            except CallError as error:
                assert (error.code, error.reason) == (CODE.UNAVAILABLE, "WORKER_LOST"), str(error)
                seen = True
                break
    finally:
        stopping.set()
        killer.join()
    assert seen, "no kill hit a ptxas at work"
    assert session.compile(text, "ttir", **fields).kernel


def test_a_client_that_vanishes_gives_its_memory_back_when_its_lease_ends(daemon: Daemon) -> None:
    from google.protobuf.duration_pb2 import Duration

    gone = daemon.open_session(lease=Duration(seconds=1))
    gone.allocate("int8", 64 << 20)
    pid = gone.info().executor_pid

    def listed() -> bool:
        sessions = daemon.sessions.ListSessions(session_pb2.ListSessionsRequest(), timeout=10).sessions
        return any(s.session == gone.id for s in sessions)

    assert listed()
    wait_until(lambda: not listed(), "the end of the lease", timeout=20)
    wait_until(lambda: pid not in daemon.children(), "the end of its executor")
    with expect(CODE.NOT_FOUND, "SESSION_EXPIRED"):
        gone.allocate("int8", 1)


# What a program does that is killed: a process of its own, so that the kernel closes its connection.
VANISHING = """
import sys, threading
from pathlib import Path
sys.path[:0] = [sys.argv[1], sys.argv[2]]
import kernels
from daemon import Daemon, Session, argument
from google.protobuf.duration_pb2 import Duration
from trun.v1 import compile_pb2, launch_pb2, tensor_pb2

daemon = Daemon(Path(sys.argv[3]), Path(), Path())
daemon.connect()
session = Session(daemon, lease=Duration(seconds=1))
held = session.allocate("int8", 64 << 20)
never = threading.Event()

def at_work():
    print(session.id, session.info().executor_pid, flush=True)

def writes():
    yield tensor_pb2.WriteRequest(session=session.id, tensor=held.tensor, data=bytes(1 << 20))
    for _ in range(32):
        yield tensor_pb2.WriteRequest(data=bytes(1 << 20))
    at_work()
    never.wait()  # the stream stays open, and its tensor half written

def uploads():
    for _ in range(16):
        yield compile_pb2.UploadRequest(session=session.id, data=bytes(1 << 20))
    at_work()
    never.wait()

def launches():
    kernel = session.compile(kernels.STORE, "ptx", metadata_json=kernels.metadata("store")).kernel
    request = launch_pb2.LaunchRequest(
        session=session.id, kernel=kernel, grid=[1], arguments=[argument(held), argument(0)]
    )
    for _ in range(100):
        yield request
    at_work()
    while True:
        yield request

if sys.argv[4] == "Write":
    daemon.tensors.Write(writes())
elif sys.argv[4] == "Upload":
    daemon.compiler.Upload(uploads())
elif sys.argv[4] == "Read":
    for chunk in daemon.tensors.Read(tensor_pb2.ReadRequest(session=session.id, tensor=held.tensor)):
        at_work()
        never.wait()  # what is not fetched has to wait
elif sys.argv[4] == "Compile":
    for event in session.compile_stream(kernels.chain(12000), "ttir", recompile=True):
        if event.WhichOneof("event") == "stage_started":
            at_work()
            never.wait()  # the compiler goes on
else:
    for answer in daemon.launches.LaunchStream(launches()):
        pass
"""


@pytest.mark.parametrize("call", ["Write", "Read", "LaunchStream", "Upload", "Compile"])
def test_a_client_killed_in_the_middle_of_a_call_leaves_nothing(
    daemon: Daemon, tmp_path_factory: pytest.TempPathFactory, call: str
) -> None:
    # A daemon of its own, where a user may have 96 MiB: the next to ask for 64 gets them only if they came back.
    flags = ["--memory-limit", "96MiB", "--compile-workers", "1"]
    small = Daemon(tmp_path_factory.mktemp("gone"), daemon.build, daemon.toolchains, *flags)
    small.start()
    try:
        with untouched(small):
            waiting = small.open_session()
            waiting.compile(kernels.example("vector_add.ttir"), "ttir")  # its worker is there, before and after

            def held() -> Counter[str]:
                return footprint(small.process.pid, small.folder / "cache")

            wait_until(lambda: held()["process trun-executor"] == 4, "the spare executors")
            before = held()
            paths = [str(Path(__file__).parent), str(daemon.build / "python-stubs"), str(small.folder), call]
            client = subprocess.Popen([sys.executable, "-c", VANISHING, *paths], stdout=subprocess.PIPE, text=True)
            assert client.stdout is not None
            gone, executor = client.stdout.readline().split()

            def used() -> int:
                listed = small.sessions.ListSessions(session_pb2.ListSessionsRequest(), timeout=10).sessions
                return sum(s.tensor_bytes for s in listed if s.session == gone)

            assert used() == 64 << 20
            with expect(CODE.RESOURCE_EXHAUSTED, "QUOTA"):
                waiting.allocate("int8", 64 << 20)
            client.kill()
            client.wait()
            client.stdout.close()
            started = time.monotonic()
            waiting.compile(kernels.example("vector_add.ttir"), "ttir", recompile=True)
            assert time.monotonic() - started < 5, "the only worker still works for a client that is gone"
            wait_until(lambda: used() == 0, "the end of the lease", timeout=20)
            with expect(CODE.NOT_FOUND, "SESSION_EXPIRED"):
                waiting.id, mine = gone, waiting.id
                waiting.allocate("int8", 1)
            waiting.id = mine
            next_one = small.open_session()
            full = next_one.tensor(np.full(64 << 20, 7, np.int8))
            assert set(next_one.read(full.tensor)) == {7}
            next_one.close()
            wait_until(lambda: int(executor) not in small.children(), "the end of its executor")
            wait_until(lambda: held() == before, f"all being given back: {difference(before, held())}")
    finally:
        assert small.stop() == 0
