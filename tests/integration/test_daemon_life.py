"""A daemon from its start to its end and over it: draining, what lies on the disk meanwhile, reflection."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import kernels
import numpy as np
import pytest
from conftest import BUILD, TOOLCHAINS
from daemon import CallError, Daemon, Session, argument, translated, wait_until
from footprint import descriptors
from trun.v1 import admin_pb2, launch_pb2, tensor_pb2

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


def test_a_running_launch_ends_well_while_the_daemon_drains_and_the_cache_is_whole_afterwards(daemon: Daemon) -> None:
    session = daemon.open_session()
    vector_add(session)
    kernel = session.compile(COUNTING, "ptx", metadata_json=kernels.metadata("counting")).kernel
    out = session.allocate("int32", 1)
    started = time.monotonic()
    session.launch(kernel, (1,), out, 200_000)
    count = int(200_000 * max(1.0, 2.0 / (time.monotonic() - started)))
    request = launch_pb2.LaunchRequest(
        session=session.id, kernel=kernel, grid=[1], wait=True, arguments=[argument(out), argument(count)]
    )
    before = session.info().launches
    call = daemon.launches.Launch.future(request, timeout=60)
    wait_until(lambda: session.info().launches > before, "the launch being counted")
    daemon.process.terminate()

    def refusal() -> str:
        try:
            daemon.open_session().close()
        except CallError as error:
            assert error.code == grpc.StatusCode.UNAVAILABLE, str(error)
            return error.reason
        return ""

    wait_until(lambda: refusal() == "DRAINING", "new work being refused")
    assert not call.done(), "the launch was to run while the daemon drains"
    with translated():
        call.result()
    assert daemon.process.wait(30) == 0
    daemon.start()
    verified = daemon.admin.VerifyCache(admin_pb2.VerifyCacheRequest(), timeout=60)
    assert verified.entries >= 1 and verified.bad_blobs == 0
    assert vector_add(daemon.open_session()), "a finished entry was lost"


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
