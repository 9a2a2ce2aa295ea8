"""Limits of docs/operations.md, passed through a daemon: a status with a reason and the limit, and work goes on."""

from __future__ import annotations

import contextlib
import resource
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import kernels
import pytest
from conftest import BUILD, TOOLCHAINS
from daemon import CallError, Daemon, Session, translated, wait_until
from google.protobuf.duration_pb2 import Duration
from trun.v1 import session_pb2

CODE = grpc.StatusCode


@pytest.fixture(autouse=True)
def others_work(daemon: Daemon) -> Iterator[None]:
    """A session that was there before is served after."""
    other = daemon.open_session()
    held = other.allocate("int32", 64)
    yield
    kernel = other.compile(kernels.STORE, "ptx", metadata_json=kernels.metadata("store")).kernel
    other.launch(kernel, (1,), held, 0)
    other.close()


@contextlib.contextmanager
def refused(reason: str, limit: int | None, code: grpc.StatusCode = CODE.RESOURCE_EXHAUSTED) -> Iterator[None]:
    with pytest.raises(CallError) as caught:
        yield
    assert (caught.value.code, caught.value.reason) == (code, reason), str(caught.value)
    assert limit is None or caught.value.details["limit"] == str(limit), caught.value.details


def test_a_message_over_4_mib_is_refused_by_grpc_itself(session: Session) -> None:
    with refused("", None):
        session.compile(b" " * (4 << 20), "ttir")


def test_a_file_over_2_mib_inside_a_compile_is_told_to_be_uploaded(session: Session) -> None:
    with refused("TOO_LARGE", 2 << 20):
        session.compile(b" " * ((2 << 20) + 1), "ttir")


def test_metadata_over_1_mib_is_refused(session: Session) -> None:
    padded = kernels.metadata("store", padding=" " * (1 << 20))
    with refused("TOO_LARGE", 1 << 20):
        session.compile(kernels.STORE, "ptx", metadata_json=padded)
    assert session.compile(kernels.STORE, "ptx", metadata_json=kernels.metadata("store", padding=" " * 1000)).kernel


def test_a_chunk_over_1_mib_is_refused(session: Session) -> None:
    from trun.v1 import tensor_pb2

    held = session.allocate("int8", 4 << 20)
    request = tensor_pb2.WriteRequest(session=session.id, tensor=held.tensor, data=bytes((1 << 20) + 1))
    with refused("TOO_LARGE", 1 << 20), translated():
        session.daemon.tensors.Write(iter([request]), timeout=30)


def test_the_65th_session_of_a_user_is_refused_until_one_is_closed(daemon: Daemon) -> None:
    sessions = [daemon.open_session() for _ in range(63)]  # and the one that was there before
    with refused("QUOTA", 64):
        daemon.open_session()
    sessions.pop().close()
    sessions.append(daemon.open_session())
    for opened in sessions:
        opened.close()


def test_sessions_of_all_users_are_limited(tmp_path: Path) -> None:
    small = Daemon(tmp_path, BUILD, TOOLCHAINS, "--max-sessions", "2")
    small.start()
    first = small.open_session()
    small.open_session()
    with refused("QUOTA", 2):
        small.open_session()
    first.close()
    assert small.open_session().allocate("int8", 1)
    assert small.stop() == 0


def test_the_65th_token_for_descriptors_is_refused(session: Session) -> None:
    held = session.allocate("int8", 1)

    def export() -> Any:
        request = session_pb2.ExportDescriptorsRequest(session=session.id, tensors=[held.tensor])
        with translated():
            return session.daemon.sessions.ExportDescriptors(request, timeout=10)

    for _ in range(64):
        assert export().token
    with refused("QUOTA", 64):
        export()


def test_a_connection_over_1024_is_closed_at_once_and_the_others_go_on(daemon: Daemon, session: Session) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(max(soft, 4096), hard), hard))
    connections = []

    def connect() -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        connections.append(connection)
        connection.connect(str(daemon.socket))
        return connection

    def is_closed(connection: socket.socket) -> bool:
        """A connection that is served gets HTTP/2's settings."""
        connection.settimeout(10)
        try:
            return connection.recv(1) == b""
        except ConnectionResetError:
            return True

    # This client has some of its own: how many is gRPC's affair.
    while not (last := is_closed(connect())) and len(connections) < 1100:
        pass
    assert last and 1000 <= len(connections) <= 1024, len(connections)
    assert session.allocate("int8", 1).tensor
    for connection in connections:
        connection.close()
    wait_until(lambda: not is_closed(connect()), "a connection being taken again")
    connections[-1].close()


@pytest.mark.parametrize("seconds", [0.5, 3601])
def test_a_lease_is_from_a_second_to_an_hour(daemon: Daemon, seconds: float) -> None:
    with refused("ARGUMENT", None, CODE.INVALID_ARGUMENT):
        daemon.open_session(lease=Duration(seconds=int(seconds), nanos=int(seconds % 1 * 1e9)))


def test_a_launch_may_take_an_hour_at_most(session: Session) -> None:
    kernel = session.compile(kernels.STORE, "ptx", metadata_json=kernels.metadata("store")).kernel
    with refused("ARGUMENT", None, CODE.INVALID_ARGUMENT):
        session.launch(kernel, (1,), session.allocate("int32", 64), 0, deadline=3601)
