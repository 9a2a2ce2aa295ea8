"""A daemon from its start to its end and over it: draining, what lies on the disk meanwhile, reflection."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import kernels
import numpy as np
import pytest
from conftest import BUILD, TOOLCHAINS
from daemon import CallError, Daemon, Session, argument, translated, wait_until
from footprint import descriptors, process_table
from google.protobuf.duration_pb2 import Duration
from trun.v1 import (
    admin_pb2,
    compile_pb2,
    launch_pb2,
    session_pb2,
    staging_pb2,
    tensor_pb2,
    toolchain_pb2,
)

# Adds 1 to out[0] `count` times, one after the other.
COUNTING = kernels.ptx(
    "counting",
    "  .param .u64 out,\n  .param .u32 count",
    """  .reg .pred %p<2>;
  .reg .b32 %r<4>;
  .reg .b64 %rd<2>;
  ld.param.u64 %rd1, [out];
  ld.param.u32 %r1, [count];
  mov.u32 %r2, 0;
$again:
  add.s32 %r2, %r2, 1;
  setp.ne.s32 %p1, %r2, %r1;
  @%p1 bra $again;
  st.global.b32 [%rd1], %r2;
  ret;""",
)


PROTOCOLS = [name for name in ("tcp", "tcp6", "udp", "udp6", "raw", "raw6") if Path("/proc/net", name).exists()]


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    """One of its own for each test: it is stopped there."""
    running = Daemon(tmp_path, BUILD, TOOLCHAINS, "--drain-deadline", "60s")
    running.start()
    yield running
    if running.process.poll() is None:
        running.stop()


def test_no_process_of_the_daemon_listens_on_a_network(daemon: Daemon) -> None:
    session = daemon.open_session()
    vector_add(session)  # all there are: an executor, spare ones, a worker
    family = [daemon.process.pid, *daemon.children()]
    sockets = {inode for pid in family for inode, link in descriptors(pid) if link.startswith("socket:")}
    assert len(family) >= 4 and sockets

    def in_use() -> set[int]:
        rows = [row for name in PROTOCOLS for row in Path(f"/proc/net/{name}").read_text().splitlines()[1:]]
        return {int(row.split()[9]) for row in rows}

    assert not sockets & in_use()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        assert os.fstat(listening.fileno()).st_ino in in_use(), "one that listens is seen"
    session.close()


def vector_add(session: Session) -> bool:
    """Launches it on 3,000 elements and checks; whether it was found in the cache."""
    made = session.compile(kernels.example("vector_add.ttir"), "ttir")
    x, y = (np.random.default_rng(seed).standard_normal(3000).astype(np.float32) for seed in (1, 2))
    out = session.allocate("float32", 3000)
    session.launch(made.kernel, (3,), session.tensor(x), session.tensor(y), out, 3000)
    np.testing.assert_array_equal(np.frombuffer(session.read(out.tensor), np.float32), x + y)
    return made.cached


def begun(session: Session, kernel: str, *arguments: Any, **fields: Any) -> Any:
    """A launch that was taken and runs: the future of its call."""
    request = launch_pb2.LaunchRequest(
        session=session.id, kernel=kernel, grid=[1], wait=True, arguments=[argument(a) for a in arguments], **fields
    )
    before = session.info().launches
    call = session.daemon.launches.Launch.future(request, timeout=90)
    wait_until(lambda: session.info().launches > before, "the launch being counted")
    return call


def endless_of(session: Session) -> str:
    return session.compile(kernels.ENDLESS, "ptx", metadata_json=kernels.metadata("endless")).kernel


def ends(call: Any) -> CallError | None:
    """How a call ends."""
    try:
        with translated():
            call.result()
    except CallError as error:
        return error
    return None


def counts_for(session: Session, kernel: str, out: Any, seconds: float) -> int:
    """How far COUNTING has to count to take at least so long."""
    started = time.monotonic()
    session.launch(kernel, (1,), out, 200_000)
    return int(200_000 * max(1.0, seconds / (time.monotonic() - started)))


def refuses(call: Callable[[], Any]) -> bool:
    """Whether new work is refused as it is while the daemon drains. Any other error fails the test."""
    try:
        with translated():
            call()
    except CallError as error:
        assert (error.code, error.reason) == (grpc.StatusCode.UNAVAILABLE, "DRAINING"), str(error)
        return True
    return False


def drain(daemon: Daemon) -> None:
    """Sends SIGTERM and waits until it was heard."""
    assert daemon.process is not None
    daemon.process.terminate()
    wait_until(lambda: refuses(lambda: daemon.open_session().close()), "new work being refused")


def test_a_running_launch_ends_well_while_the_daemon_drains_and_the_cache_is_whole_afterwards(daemon: Daemon) -> None:
    session = daemon.open_session()
    vector_add(session)
    kernel = session.compile(COUNTING, "ptx", metadata_json=kernels.metadata("counting")).kernel
    out = session.allocate("int32", 1)
    count = counts_for(session, kernel, out, 2)
    call = begun(session, kernel, out, count)
    drain(daemon)
    assert not call.done(), "the launch was to run while the daemon drains"
    assert ends(call) is None
    assert np.frombuffer(session.read(out.tensor), np.int32)[0] == count, "its result can be read"
    assert daemon.process.wait(30) == 0
    daemon.start()
    verified = daemon.admin.VerifyCache(admin_pb2.VerifyCacheRequest(), timeout=60)
    assert verified.entries >= 1 and verified.bad_blobs == 0
    assert vector_add(daemon.open_session()), "a finished entry was lost"


def test_a_launch_that_does_not_end_is_cut_at_the_drain_deadline_and_nothing_is_left(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path, BUILD, TOOLCHAINS, "--drain-deadline", "1s")
    daemon.start()
    session = daemon.open_session()
    vector_add(session)
    call = begun(session, endless_of(session), session.allocate("int32", 8), deadline=Duration(seconds=60))
    family = daemon.children()
    assert len(family) >= 2, family
    started = time.monotonic()
    daemon.process.terminate()
    error = ends(call)
    assert error is not None and (error.code, error.reason) == (grpc.StatusCode.UNAVAILABLE, "DRAINING"), str(error)
    assert 0.9 < time.monotonic() - started < 8, "cut at the deadline, neither before nor long after"
    assert daemon.process.wait(8) == 0
    wait_until(lambda: not family.keys() & process_table().keys(), "the end of its processes")
    daemon.start()
    verified = daemon.admin.VerifyCache(admin_pb2.VerifyCacheRequest(), timeout=60)
    assert verified.entries >= 1 and verified.bad_blobs == 0
    assert vector_add(daemon.open_session()), "a finished entry was lost"
    assert daemon.stop() == 0


def test_a_running_compile_ends_well_while_the_daemon_drains_and_is_in_the_cache_afterwards(daemon: Daemon) -> None:
    session, text = daemon.open_session(), kernels.chain(1500)
    events = session.compile_stream(text, "ttir")
    assert next(events).WhichOneof("event") == "stage_started"
    drain(daemon)
    kinds = [event.WhichOneof("event") for event in events]
    assert kinds.count("stage_done") == 3 and kinds[-1] == "kernel", kinds
    assert daemon.process.wait(30) == 0
    daemon.start()
    assert daemon.open_session().compile(text, "ttir").cached


def test_a_compile_that_takes_too_long_is_cut_with_its_worker(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path, BUILD, TOOLCHAINS, "--drain-deadline", "100ms")
    daemon.start()
    session = daemon.open_session()
    events = session.compile_stream(kernels.chain(12_000), "ttir")
    assert next(events).WhichOneof("event") == "stage_started"

    def workers() -> set[int]:
        return {pid for pid, command in daemon.children().items() if "trun_worker" in command}

    wait_until(workers, "its worker being started")
    working = workers()
    daemon.process.terminate()
    with pytest.raises(CallError) as caught:
        list(events)
    assert (caught.value.code, caught.value.reason) == (grpc.StatusCode.UNAVAILABLE, "DRAINING"), str(caught.value)
    assert daemon.process.wait(8) == 0
    wait_until(lambda: not working & process_table().keys(), "the end of the worker")


def test_every_kind_of_new_work_is_refused_while_the_daemon_drains_and_results_can_be_read(daemon: Daemon) -> None:
    session = daemon.open_session()
    store = session.compile(kernels.STORE, "ptx", metadata_json=kernels.metadata("store")).kernel
    out = session.tensor(np.arange(64, dtype=np.int32))
    other = daemon.open_session()  # whose launch stays the one that runs: a read waits for its own session's
    call = begun(other, endless_of(other), other.allocate("int32", 8), deadline=Duration(seconds=60))
    drain(daemon)
    launch = launch_pb2.LaunchRequest(
        session=session.id, kernel=store, grid=[1], arguments=[argument(out), argument(0)]
    )
    fields = {"session": session.id, "tensor": out.tensor}
    refused: dict[str, Callable[[], Any]] = {
        "OpenSession": daemon.open_session,
        "Compile": lambda: session.compile(kernels.STORE, "ptx", metadata_json=kernels.metadata("store")),
        "FindMissing": lambda: daemon.compiler.FindMissing(compile_pb2.FindMissingRequest(session=session.id)),
        "Upload": lambda: session.upload(b"text"),
        "FindTuning": lambda: daemon.compiler.FindTuning(compile_pb2.FindTuningRequest(session=session.id)),
        "StoreTuning": lambda: daemon.compiler.StoreTuning(compile_pb2.StoreTuningRequest(session=session.id)),
        "Allocate": lambda: session.allocate("int32", 1),
        "Write": lambda: session.write(out.tensor, b"text"),
        "Fill": lambda: daemon.tensors.Fill(tensor_pb2.FillRequest(**fields, pattern=b"\0")),
        "Copy": lambda: daemon.tensors.Copy(tensor_pb2.CopyRequest(session=session.id, source=out.tensor)),
        "CreateStaging": lambda: daemon.stagings.CreateStaging(staging_pb2.CreateStagingRequest(session=session.id)),
        "Launch": lambda: session.launch(store, (1,), out, 0),
        "LaunchStream": lambda: list(daemon.launches.LaunchStream(iter([launch]))),
        "Benchmark": lambda: daemon.launches.Benchmark(launch_pb2.BenchmarkRequest(launch=launch, repetitions=1)),
        "InstallToolchain": lambda: list(
            daemon.toolchain.InstallToolchain(toolchain_pb2.InstallToolchainRequest(version="3.6.0"))
        ),
        "AdoptToolchain": lambda: daemon.toolchain.AdoptToolchain(toolchain_pb2.AdoptToolchainRequest(python="/usr")),
        "RemoveToolchain": lambda: daemon.toolchain.RemoveToolchain(toolchain_pb2.RemoveToolchainRequest(name="3.9.0")),
        "DescribeToolchain": lambda: daemon.toolchain.DescribeToolchain(toolchain_pb2.DescribeToolchainRequest()),
        "PinCacheEntry": lambda: daemon.admin.PinCacheEntry(admin_pb2.PinCacheEntryRequest()),
        "EvictCacheEntries": lambda: daemon.admin.EvictCacheEntries(admin_pb2.EvictCacheEntriesRequest()),
        "VerifyCache": lambda: daemon.admin.VerifyCache(admin_pb2.VerifyCacheRequest()),
        "ExportCache": lambda: list(daemon.admin.ExportCache(admin_pb2.ExportCacheRequest())),
        "ImportCache": lambda: daemon.admin.ImportCache(iter([admin_pb2.ImportCacheRequest(data=b"x")])),
    }
    assert [name for name, request in refused.items() if not refuses(request)] == []
    # What only looks, reads or gives back is served.
    assert session.read(out.tensor) == np.arange(64, dtype=np.int32).tobytes()
    assert b"st.global" in session.artifact(store, "ptx")
    listed = daemon.sessions.ListSessions(session_pb2.ListSessionsRequest()).sessions
    assert {s.session for s in listed} == {session.id, other.id}
    assert daemon.sessions.KeepAlive(session_pb2.KeepAliveRequest(session=session.id))
    assert daemon.statistics().entries >= 0
    assert daemon.admin.GetServerInfo(admin_pb2.GetServerInfoRequest()).draining
    assert {t.name for t in daemon.toolchain.ListToolchains(toolchain_pb2.ListToolchainsRequest()).toolchains}
    session.free(out.tensor)
    assert not call.done()
    daemon.process.terminate()  # a second time: now
    error = ends(call)
    assert error is not None and (error.code, error.reason) == (grpc.StatusCode.UNAVAILABLE, "DRAINING"), str(error)
    assert daemon.process.wait(8) == 0


def test_launches_that_nobody_waits_for_end_before_the_daemon_does_and_their_results_can_be_read(
    daemon: Daemon,
) -> None:
    session = daemon.open_session()
    counting = session.compile(COUNTING, "ptx", metadata_json=kernels.metadata("counting")).kernel
    store = session.compile(kernels.STORE, "ptx", metadata_json=kernels.metadata("store")).kernel
    first, out = session.allocate("int32", 1), session.tensor(np.full(128, -1, np.int32))
    count = counts_for(session, counting, first, 1.5)
    session.launch(counting, (1,), first, count, wait=False)
    for skip in range(50):
        session.launch(store, (1,), out, skip, wait=False)
    drain(daemon)
    session.synchronize()
    time.sleep(0.2)  # a client has something to do between two calls
    assert np.frombuffer(session.read(first.tensor), np.int32)[0] == count
    stored = np.frombuffer(session.read(out.tensor), np.int32)
    assert stored.tolist() == [*range(31), *[31] * 50, *[-1] * 47]
    assert daemon.process.wait(8) == 0


def paused(requests: list[Any], going: threading.Event) -> Iterator[Any]:
    """What a client sends that then keeps its stream open."""
    yield from requests
    going.wait(60)


@pytest.mark.parametrize("kind", ["LaunchStream", "Write"])
def test_a_stream_that_a_client_only_holds_open_does_not_hold_the_drain(daemon: Daemon, kind: str) -> None:
    session, going = daemon.open_session(), threading.Event()
    out = session.tensor(np.zeros(64, np.int32))
    if kind == "LaunchStream":
        store = session.compile(kernels.STORE, "ptx", metadata_json=kernels.metadata("store")).kernel
        launch = launch_pb2.LaunchRequest(
            session=session.id, kernel=store, grid=[1], arguments=[argument(out), argument(0)]
        )
        call = daemon.launches.LaunchStream(paused([launch], going), timeout=60)
        assert next(call).status.code == 0
    else:
        chunk = tensor_pb2.WriteRequest(session=session.id, tensor=out.tensor, data=b"\1" * 8)
        call = daemon.tensors.Write.future(paused([chunk], going), timeout=60)
        wait_until(lambda: session.read(out.tensor)[:8] == b"\1" * 8, "the first chunk")
    started = time.monotonic()
    daemon.process.terminate()
    with pytest.raises(CallError) as caught, translated():
        next(call) if kind == "LaunchStream" else call.result()
    assert (caught.value.code, caught.value.reason) == (grpc.StatusCode.UNAVAILABLE, "DRAINING"), str(caught.value)
    assert daemon.process.wait(30) == 0
    assert time.monotonic() - started < 5, "the drain deadline is 60 s"
    going.set()


def test_a_write_that_goes_on_when_the_drain_begins_comes_to_its_end(daemon: Daemon) -> None:
    session, begun = daemon.open_session(), threading.Event()
    out = session.allocate("int32", 1024)

    def chunks() -> Iterator[Any]:
        for place in range(32):
            yield tensor_pb2.WriteRequest(session=session.id, tensor=out.tensor, data=bytes([place]) * 128)
            begun.set()
            time.sleep(0.03)

    call = daemon.tensors.Write.future(chunks(), timeout=60)
    assert begun.wait(60)
    drain(daemon)
    assert call.result().bytes == 4096
    assert session.read(out.tensor) == b"".join(bytes([place]) * 128 for place in range(32))
    assert daemon.process.wait(8) == 0


def test_a_client_that_does_nothing_is_not_waited_for_until_the_drain_deadline(daemon: Daemon) -> None:
    session = daemon.open_session()
    session.allocate("int32", 1)
    started = time.monotonic()
    daemon.process.terminate()
    assert daemon.process.wait(30) == 0
    assert time.monotonic() - started < 5


def test_the_end_does_not_wait_for_what_a_slow_reader_left_behind(daemon: Daemon) -> None:
    for _ in range(4):
        session = daemon.open_session()
        data = session.tensor(np.zeros(64 << 20, np.int8))
        with translated():
            for _ in daemon.tensors.Read(tensor_pb2.ReadRequest(session=session.id, tensor=data.tensor), timeout=60):
                time.sleep(0.02)  # the sender has to wait for room
        started = time.monotonic()
        assert daemon.stop() == 0
        assert time.monotonic() - started < 5
        daemon.start()


def flip_bytes(files: list[Path]) -> None:
    for file in files:
        damaged = bytearray(file.read_bytes())
        for place in range(0, len(damaged) // 2, 97):  # what is stored comes first, then how it is found
            damaged[place] ^= 0x40
        file.write_bytes(damaged)


@pytest.mark.parametrize("kind", ["the largest table", "every table", "log"])
def test_bytes_flipped_on_the_disk_are_healed_and_counted_and_never_run(daemon: Daemon, kind: str) -> None:
    vector_add(daemon.open_session())
    assert daemon.stop() == 0
    if kind != "log":  # the next start moves what is in the log into tables
        daemon.start()
        assert daemon.stop() == 0
    pattern = "*.log" if kind == "log" else "*.sst"
    files = sorted((daemon.folder / "cache/kernels").glob(pattern), key=lambda file: file.stat().st_size)
    assert files and files[-1].stat().st_size > 5_000, files
    flip_bytes(files[-1:] if kind == "the largest table" else files)
    daemon.start()
    session = daemon.open_session()
    assert not vector_add(session), "a damaged kernel was taken for a good one"
    # Of its log the database drops what is damaged, as it does with what a power cut left half written.
    assert daemon.statistics().healed > 0 or kind == "log"
    session.close()
    assert daemon.stop() == 0
    daemon.start()
    assert vector_add(daemon.open_session()), "what was healed was not stored"
    assert daemon.statistics().healed == 0


def test_reflection_lists_the_services(daemon: Daemon) -> None:
    # ServerReflectionRequest.list_services is field 7; its proto is not installed with gRPC for Python.
    call = daemon.channel.stream_stream("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo")
    (answer,) = call(iter([b"\x3a\x01*"]), timeout=10)
    for name in ("Session", "Device", "Toolchain", "Compile", "Tensor", "Launch", "Admin"):
        assert f"trun.v1.{name}Service".encode() in answer
    assert b"grpc.health.v1.Health" in answer
