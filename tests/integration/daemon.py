"""A trund under test, and a session on it, as thin as the wire."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import grpc
from footprint import descendants
from google.rpc import error_details_pb2, status_pb2
from trun.v1 import (
    admin_pb2,
    admin_pb2_grpc,
    compile_pb2,
    compile_pb2_grpc,
    device_pb2_grpc,
    error_pb2,
    kernel_pb2,
    launch_pb2,
    launch_pb2_grpc,
    session_pb2,
    session_pb2_grpc,
    staging_pb2_grpc,
    tensor_pb2,
    tensor_pb2_grpc,
    toolchain_pb2_grpc,
)

DTYPES = {
    "float16": kernel_pb2.DTYPE_F16,
    "float32": kernel_pb2.DTYPE_F32,
    "float64": kernel_pb2.DTYPE_F64,
    "bfloat16": kernel_pb2.DTYPE_BF16,
    "int8": kernel_pb2.DTYPE_I8,
    "int32": kernel_pb2.DTYPE_I32,
    "int64": kernel_pb2.DTYPE_I64,
}


class CallError(Exception):
    """A failed call: its status code, trun's reason, the details, and the fault report where there is one."""

    def __init__(self, error: grpc.RpcError) -> None:
        self.code: grpc.StatusCode = error.code()
        self.message: str = error.details() or ""
        self.reason = ""
        self.details: dict[str, str] = {}
        self.fault: error_pb2.FaultReport | None = None
        for key, value in error.trailing_metadata() or ():
            if key == "grpc-status-details-bin":
                status = status_pb2.Status.FromString(value)
                for detail in status.details:
                    info, fault = error_details_pb2.ErrorInfo(), error_pb2.FaultReport()
                    if detail.Unpack(info):
                        self.reason, self.details = info.reason, dict(info.metadata)
                    elif detail.Unpack(fault):
                        self.fault = fault
        super().__init__(f"{self.code.name}/{self.reason}: {self.message}")


@contextlib.contextmanager
def translated() -> Any:
    try:
        yield
    except grpc.RpcError as error:
        raise CallError(error) from None


class Daemon:
    def __init__(
        self, folder: Path, build: Path, toolchains: Path, *flags: str, environment: Mapping[str, str] | None = None
    ) -> None:
        self.folder, self.build, self.toolchains, self.flags = folder, build, toolchains, flags
        self.environment = {"PATH": "/usr/bin:/bin", "HOME": str(folder), "XDG_RUNTIME_DIR": str(folder)}
        self.environment.update(environment or {})
        self.socket = folder / "trund.sock"
        self.process: subprocess.Popen[bytes] | None = None
        self.channel: grpc.Channel | None = None

    def start(self, timeout: float = 20.0) -> None:
        # trund says itself when it serves: a client that tries again and again finds out later.
        serves, told = os.pipe()
        with open(self.folder / "stderr.log", "ab") as log:
            self.process = subprocess.Popen(
                [self.build / "bin/trund", "--socket", self.socket, "--cache-dir", self.folder / "cache"]
                + ["--toolchains-dir", self.toolchains, "--log-file", self.folder / "trund.log"]
                + ["--ready-fd", str(told), *self.flags],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self.environment,
                pass_fds=[told],
            )
        os.close(told)
        answered = bool(select.select([serves], [], [], timeout)[0]) and os.read(serves, 1) != b""
        os.close(serves)
        text = (self.folder / "stderr.log").read_text()
        assert answered, f"trund ended, or did not serve within {timeout} s; it said: {text}"
        self.connect()
        grpc.channel_ready_future(self.channel).result(timeout)

    def disconnect(self) -> None:
        """No connection of ours is left, nor tried again: a channel comes back to whoever listens at its address."""
        if self.channel is not None:
            self.channel.close()
            self.channel = None

    def connect(self) -> None:
        self.disconnect()
        self.channel = grpc.insecure_channel(
            f"unix:{self.socket}",
            options=[
                ("grpc.max_receive_message_length", 64 << 20),
                ("grpc.initial_reconnect_backoff_ms", 50),
                ("grpc.max_reconnect_backoff_ms", 200),
                ("grpc.use_local_subchannel_pool", 1),
            ],
        )
        self.sessions = session_pb2_grpc.SessionServiceStub(self.channel)
        self.devices = device_pb2_grpc.DeviceServiceStub(self.channel)
        self.toolchain = toolchain_pb2_grpc.ToolchainServiceStub(self.channel)
        self.compiler = compile_pb2_grpc.CompileServiceStub(self.channel)
        self.tensors = tensor_pb2_grpc.TensorServiceStub(self.channel)
        self.stagings = staging_pb2_grpc.StagingServiceStub(self.channel)
        self.launches = launch_pb2_grpc.LaunchServiceStub(self.channel)
        self.admin = admin_pb2_grpc.AdminServiceStub(self.channel)

    def open_session(self, **fields: Any) -> Session:
        return Session(self, **fields)

    def statistics(self) -> Any:
        with translated():
            return self.admin.GetCacheStatistics(admin_pb2.GetCacheStatisticsRequest())

    def children(self) -> dict[int, str]:
        """Process id and command line of every live descendant."""
        assert self.process is not None
        return descendants(self.process.pid)

    def kill(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> int:
        assert self.process is not None
        self.disconnect()
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=30)


class Session:
    def __init__(self, daemon: Daemon, **fields: Any) -> None:
        self.daemon = daemon
        with translated():
            self.reply = daemon.sessions.OpenSession(
                session_pb2.OpenSessionRequest(protocol_version=1, client_name="tests", **fields), timeout=30
            )
        self.id = self.reply.session

    def close(self) -> None:
        with contextlib.suppress(grpc.RpcError):
            self.daemon.sessions.CloseSession(session_pb2.CloseSessionRequest(session=self.id), timeout=30)

    def info(self) -> Any:
        with translated():
            listed = self.daemon.sessions.ListSessions(session_pb2.ListSessionsRequest(), timeout=30)
        return next(s for s in listed.sessions if s.session == self.id)

    def compile_stream(self, ir: bytes | str, level: str, timeout: float = 120, **fields: Any) -> Iterator[Any]:
        """The events of a compile, each when it comes."""
        request = compile_pb2.CompileRequest(
            session=self.id,
            level=kernel_pb2.Level.Value("LEVEL_" + level.upper()),
            ir=ir.encode() if isinstance(ir, str) else ir,
            **fields,
        )
        with translated():
            yield from self.daemon.compiler.Compile(request, timeout=timeout)

    def compile_events(self, ir: bytes | str, level: str, timeout: float = 120, **fields: Any) -> list[Any]:
        return list(self.compile_stream(ir, level, timeout, **fields))

    def compile(self, ir: bytes | str, level: str, **fields: Any) -> Any:
        return self.compile_events(ir, level, **fields)[-1].kernel

    def upload(self, data: bytes) -> str:
        def chunks() -> Any:
            for start in range(0, max(len(data), 1), 1 << 20):
                yield compile_pb2.UploadRequest(session=self.id, data=data[start : start + (1 << 20)])

        with translated():
            return self.daemon.compiler.Upload(chunks(), timeout=120).digest

    def artifact(self, kernel: str, level: str) -> bytes:
        request = compile_pb2.GetArtifactRequest(
            session=self.id, kernel=kernel, level=kernel_pb2.Level.Value("LEVEL_" + level.upper())
        )
        with translated():
            return b"".join(part.data for part in self.daemon.compiler.GetArtifact(request, timeout=60))

    def allocate(self, dtype: str, *shape: int) -> Any:
        spec = tensor_pb2.TensorSpec(dtype=DTYPES[dtype], shape=shape)
        with translated():
            reply = self.daemon.tensors.Allocate(
                tensor_pb2.AllocateRequest(session=self.id, tensors=[spec]), timeout=60
            )
        return reply.tensors[0]

    def write(self, tensor: str, data: bytes, offset: int = 0) -> None:
        def chunks() -> Any:
            first = True
            for start in range(0, max(len(data), 1), 1 << 20):
                part = data[start : start + (1 << 20)]
                if first:
                    yield tensor_pb2.WriteRequest(session=self.id, tensor=tensor, offset=offset, data=part)
                else:
                    yield tensor_pb2.WriteRequest(data=part)
                first = False

        with translated():
            self.daemon.tensors.Write(chunks(), timeout=120)

    def read(self, tensor: str) -> bytes:
        with translated():
            parts = self.daemon.tensors.Read(tensor_pb2.ReadRequest(session=self.id, tensor=tensor), timeout=120)
            return b"".join(part.data for part in parts)

    def tensor(self, array: Any) -> Any:
        made = self.allocate(str(array.dtype), *array.shape)
        self.write(made.tensor, array.tobytes())
        return made

    def free(self, *tensors: str) -> None:
        with translated():
            self.daemon.tensors.Free(tensor_pb2.FreeRequest(session=self.id, tensors=tensors), timeout=30)

    def launch(
        self,
        kernel: str,
        grid: tuple[int, ...],
        *arguments: Any,
        deadline: float = 0,
        wait: bool = True,
        checks: Sequence[str] = (),
    ) -> Any:
        request = launch_pb2.LaunchRequest(
            session=self.id, kernel=kernel, grid=grid, wait=wait, arguments=[argument(a) for a in arguments]
        )
        for check in checks:
            setattr(request.checks, check, True)
        if deadline:
            request.deadline.FromNanoseconds(int(deadline * 1e9))
        with translated():
            return self.daemon.launches.Launch(request, timeout=90)

    def synchronize(self) -> Any:
        with translated():
            return self.daemon.launches.Synchronize(launch_pb2.SynchronizeRequest(session=self.id), timeout=90)


def argument(value: Any) -> launch_pb2.LaunchArgument:
    if isinstance(value, launch_pb2.LaunchArgument):
        return value
    if isinstance(value, bool | int):
        return launch_pb2.LaunchArgument(int_value=int(value))
    if isinstance(value, float):
        return launch_pb2.LaunchArgument(float_value=value)
    handle = value if isinstance(value, str) else value.tensor
    return launch_pb2.LaunchArgument(tensor=launch_pb2.TensorReference(tensor=handle))


def wait_until(condition: Any, what: str, timeout: float = 15.0) -> None:
    """Polls a condition that another process brings about; fails with `what` when it does not."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not happen within {timeout} s")
        time.sleep(0.02)
