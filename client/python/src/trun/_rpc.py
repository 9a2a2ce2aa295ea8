"""One gRPC channel to a daemon, and calls by name."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import Any

import grpc
from google.protobuf import message_factory
from google.protobuf.duration_pb2 import Duration

from trun._wire_status import error_of
from trun.errors import TrunError
from trun.v1 import (
    admin_pb2,
    compile_pb2,
    device_pb2,
    launch_pb2,
    session_pb2,
    staging_pb2,
    tensor_pb2,
    toolchain_pb2,
)

MAX_CHUNK_BYTES = 1 << 20
CALL_TIMEOUT_S = 60.0
PROTOCOL_VERSION = 1

_OPTIONS = [
    ("grpc.max_send_message_length", 4 << 20),
    ("grpc.max_receive_message_length", 4 << 20),
    ("grpc.max_metadata_size", 32 << 10),
    ("grpc.absolute_max_metadata_size", 64 << 10),
    ("grpc.enable_http_proxy", 0),
    ("grpc.service_config_disable_resolution", 1),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.default_authority", "localhost"),
]
_FILES = (
    admin_pb2,
    compile_pb2,
    device_pb2,
    launch_pb2,
    session_pb2,
    staging_pb2,
    tensor_pb2,
    toolchain_pb2,
)


def _forked() -> TrunError:
    return TrunError(
        "this connection was made before a fork, and a forked child cannot use it: call trun.connect() in the child",
        reason="UNAVAILABLE",
        code="FAILED_PRECONDITION",
    )


class Connection:
    """Thread-safe. Belongs to the process that made it: a forked child that uses it gets an error, never a hang."""

    def __init__(self, socket_path: str, started_daemon: bool) -> None:
        self.address = f"unix:{socket_path}"
        self.started_daemon = started_daemon
        self.pid = os.getpid()
        self._channel = grpc.insecure_channel(self.address, options=_OPTIONS)
        self._calls: dict[str, Any] = {}
        for file in _FILES:
            for service in file.DESCRIPTOR.services_by_name.values():
                for method in service.methods:
                    self._calls[f"{service.name}.{method.name}"] = self._make_call(service, method)

    def _make_call(self, service: Any, method: Any) -> Any:
        kind = f"{'stream' if method.client_streaming else 'unary'}_{'stream' if method.server_streaming else 'unary'}"
        return getattr(self._channel, kind)(
            f"/{service.full_name}/{method.name}",
            request_serializer=message_factory.GetMessageClass(method.input_type).SerializeToString,
            response_deserializer=message_factory.GetMessageClass(method.output_type).FromString,
        )

    def call(
        self,
        name: str,
        request: Any,
        timeout: float | None = CALL_TIMEOUT_S,
        file: str = "",
    ) -> Any:
        """One unary call, "SessionService.KeepAlive"; or a streamed request, where ``request`` is an iterator."""
        if os.getpid() != self.pid:
            raise _forked()
        try:
            return self._calls[name](request, timeout=timeout)
        except grpc.RpcError as error:
            raise error_of(error, file) from None

    def send(self, name: str, requests: Iterable[Any], timeout: float | None = None) -> Any:
        return self.call(name, iter(requests), timeout)

    def receive(self, name: str, request: Any, timeout: float | None = None, file: str = "") -> Iterator[Any]:
        """The messages of a streamed response. Leaving the loop early cancels the call."""
        if os.getpid() != self.pid:
            raise _forked()
        stream = self._calls[name](request, timeout=timeout)
        try:
            yield from stream
        except grpc.RpcError as error:
            raise error_of(error, file) from None
        finally:
            stream.cancel()

    def close(self) -> None:
        if os.getpid() == self.pid:
            self._channel.close()


def to_duration(seconds: float) -> Duration:
    duration = Duration()
    duration.FromNanoseconds(round(seconds * 1e9))
    return duration


def to_seconds(duration: Duration) -> float:
    return float(duration.seconds) + float(duration.nanos) * 1e-9
