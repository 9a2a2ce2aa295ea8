"""A daemon for tests: the public API over a real socket, with tensors in sealed memfds and one kernel in NumPy.

As a program it takes the flags that a client gives to trund.
"""

from __future__ import annotations

import argparse
import array
import collections
import concurrent.futures
import fcntl
import json
import os
import signal
import socket
import struct
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import numpy as np
from google.protobuf import message_factory
from trun._wire_status import ErrorInfo, Status
from trun.v1 import (
    compile_pb2,
    device_pb2,
    error_pb2,
    kernel_pb2,
    launch_pb2,
    session_pb2,
    staging_pb2,
    tensor_pb2,
    toolchain_pb2,
)

PAGE = 4096


class Refusal(Exception):
    def __init__(
        self,
        code: grpc.StatusCode,
        reason: str,
        message: str,
        fault: Any = None,
        **details: str,
    ) -> None:
        super().__init__(message)
        self.code, self.reason, self.message, self.details, self.fault = (
            code,
            reason,
            message,
            details,
            fault,
        )

    def abort(self, context: Any) -> None:
        status = Status(code=self.code.value[0], message=self.message)
        info = ErrorInfo(reason=self.reason, domain="trun", metadata=self.details)
        details = [("type.googleapis.com/google.rpc.ErrorInfo", info)]
        if self.fault is not None:
            details.append(("type.googleapis.com/trun.v1.FaultReport", self.fault))
        for url, message in details:
            status.details.add(type_url=url, value=message.SerializeToString())
        context.set_trailing_metadata([("grpc-status-details-bin", status.SerializeToString())])
        context.abort(self.code, self.message)


def not_found(reason: str, message: str) -> Refusal:
    return Refusal(grpc.StatusCode.NOT_FOUND, reason, message)


class Memory:
    def __init__(self, nbytes: int) -> None:
        self.nbytes = nbytes
        self.fd = os.memfd_create("fake", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(self.fd, PAGE + nbytes)  # the tensor does not begin the file
        fcntl.fcntl(self.fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)

    def read(self) -> bytes:
        return os.pread(self.fd, self.nbytes, PAGE)

    def write(self, data: bytes, offset: int = 0) -> None:
        os.pwrite(self.fd, data, PAGE + offset)


SIGNATURES = {
    "vector_add": [
        ("x_ptr", "*F32"),
        ("y_ptr", "*F32"),
        ("out_ptr", "*F32"),
        ("n", "I32"),
    ],
    "scale": [("x_ptr", "*BF16"), ("by", "F32")],
    "unnamed": [("", "*F32"), ("", "I32")],
}


class FakeTrund:
    """State and calls; every method whose name is that of an RPC answers it."""

    def __init__(self, folder: str, map_memory: bool = True) -> None:
        self.socket = os.path.join(folder, "trund.sock")
        self.descriptor_socket = self.socket + ".fds" if map_memory else ""
        self.calls: collections.Counter[str] = collections.Counter()
        self.requests: dict[str, Any] = {}
        self.sessions: set[str] = set()
        self.tensors: dict[str, Memory] = {}
        self.kernels: dict[str, str] = {}
        self.uploads: set[str] = set()
        self.tokens: dict[str, list[int]] = {}
        self.memory_is_the_devices_own = False  # as on a GPU
        self.areas: dict[str, int] = {}  # staging areas, as descriptors
        self.unsealed_areas = False
        self.refuse_areas = ""  # a reason
        self.lock = threading.Lock()
        self.next_id = 0
        self.pending_fault: Refusal | None = None
        self.server = grpc.server(concurrent.futures.ThreadPoolExecutor(8))
        self.server.add_generic_rpc_handlers([self._handlers()])
        self.server.add_insecure_port(f"unix:{self.socket}")
        self.server.start()
        if map_memory:
            self.listener = socket.socket(socket.AF_UNIX)
            self.listener.bind(self.descriptor_socket)
            self.listener.listen()
            threading.Thread(target=self._serve_descriptors, daemon=True).start()

    def stop(self) -> None:
        self.server.stop(0)

    def _new_id(self, kind: str) -> str:
        with self.lock:
            self.next_id += 1
            return f"{kind}{self.next_id}"

    def _handlers(self) -> Any:
        handlers = {}
        for file in (
            session_pb2,
            device_pb2,
            toolchain_pb2,
            compile_pb2,
            tensor_pb2,
            staging_pb2,
            launch_pb2,
        ):
            for service in file.DESCRIPTOR.services_by_name.values():
                for method in service.methods:
                    kind = ("stream_" if method.client_streaming else "unary_") + (
                        "stream" if method.server_streaming else "unary"
                    )
                    handlers[f"/{service.full_name}/{method.name}"] = getattr(grpc, f"{kind}_rpc_method_handler")(
                        self._wrap(
                            method.name,
                            method.client_streaming,
                            method.server_streaming,
                        ),
                        message_factory.GetMessageClass(method.input_type).FromString,
                        message_factory.GetMessageClass(method.output_type).SerializeToString,
                    )

        class Handler(grpc.GenericRpcHandler):  # type: ignore[misc]
            def service(self, details: Any) -> Any:
                return handlers.get(details.method)

        return Handler()

    def _wrap(self, name: str, takes_stream: bool, gives_stream: bool) -> Callable[[Any, Any], Any]:
        def checked(request: Any) -> Any:
            self.calls[name] += 1
            if not takes_stream:
                self.requests[name] = request
                session = getattr(request, "session", None) or getattr(getattr(request, "launch", None), "session", "")
                if session and session not in self.sessions:
                    raise not_found(
                        "SESSION_EXPIRED",
                        f"session {session} was closed or its lease ran out",
                    )
            return getattr(self, name)(request)

        def unary(request: Any, context: Any) -> Any:
            try:
                return checked(request)
            except Refusal as refusal:
                refusal.abort(context)

        def stream(request: Any, context: Any) -> Iterator[Any]:
            try:
                yield from checked(request)
            except Refusal as refusal:
                refusal.abort(context)

        return stream if gives_stream else unary

    def _serve_descriptors(self) -> None:
        while True:
            connection, _ = self.listener.accept()
            with connection:
                magic, length = struct.unpack("<4sI", connection.recv(8))
                assert magic == b"TFD1"
                fds = self.tokens.pop(connection.recv(length).decode(), None)
                if fds is None:
                    text = b"unknown token"
                    connection.sendall(struct.pack("<4sIII", b"TFD1", 5, 0, len(text)) + text)
                    continue
                connection.sendall(struct.pack("<4sIII", b"TFD1", 0, len(fds), 0))
                for at in range(0, len(fds), 64):
                    part = array.array("i", fds[at : at + 64])
                    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, part)]
                    connection.sendmsg([struct.pack("<I", len(part))], rights)

    # Sessions.

    def OpenSession(self, request: Any) -> Any:
        if request.device not in ("", "emulator:0"):
            raise not_found("ARGUMENT", f"no device {request.device}")
        session = self._new_id("s")
        self.sessions.add(session)
        response = session_pb2.OpenSessionResponse(
            session=session,
            protocol_version=1,
            server_version="fake",
            device="emulator:0",
            device_name="fake",
        )
        response.device_target = "cuda:80:32"
        response.lease.CopyFrom(request.lease)
        response.descriptor_socket = self.descriptor_socket
        return response

    def KeepAlive(self, request: Any) -> Any:
        return session_pb2.KeepAliveResponse()

    def CloseSession(self, request: Any) -> Any:
        self.sessions.discard(request.session)
        return session_pb2.CloseSessionResponse()

    def ExportDescriptors(self, request: Any) -> Any:
        if self.memory_is_the_devices_own:
            message = "the memory of cuda:0 is the device's own and cannot be mapped"
            raise Refusal(grpc.StatusCode.FAILED_PRECONDITION, "UNSUPPORTED_TARGET", message)
        token = self._new_id("token")
        memories = [self._tensor(handle) for handle in request.tensors]
        self.tokens[token] = [memory.fd for memory in memories]
        response = session_pb2.ExportDescriptorsResponse(token=token)
        for i, memory in enumerate(memories):
            response.tensors.add(
                descriptor_index=i,
                offset=PAGE,
                bytes=memory.nbytes,
                descriptor_bytes=PAGE + memory.nbytes,
            )
        return response

    # Tensors.

    def _tensor(self, handle: str) -> Memory:
        if handle not in self.tensors:
            raise not_found("HANDLE", f"no tensor {handle}: it was freed or is another session's")
        return self.tensors[handle]

    def Allocate(self, request: Any) -> Any:
        response = tensor_pb2.AllocateResponse()
        for spec in request.tensors:
            size = {
                "DTYPE_F32": 4,
                "DTYPE_F16": 2,
                "DTYPE_BF16": 2,
                "DTYPE_F64": 8,
                "DTYPE_I64": 8,
            }.get(kernel_pb2.Dtype.Name(spec.dtype), 1)
            nbytes = size * int(np.prod(list(spec.shape), dtype=np.int64))
            if nbytes > 1 << 30:
                raise Refusal(
                    grpc.StatusCode.RESOURCE_EXHAUSTED,
                    "QUOTA",
                    "too much",
                    limit=str(1 << 30),
                )
            handle = self._new_id("t")
            self.tensors[handle] = Memory(nbytes)
            response.tensors.add(
                tensor=handle,
                dtype=spec.dtype,
                shape=spec.shape,
                bytes=nbytes,
                device_address=0x1000,
            )
        return response

    def Write(self, requests: Iterator[Any]) -> Any:
        first = next(requests)
        memory, at = self._tensor(first.tensor), first.offset
        memory.write(first.data, at)
        at += len(first.data)
        for request in requests:
            assert not request.tensor and len(request.data) <= 1 << 20
            memory.write(request.data, at)
            at += len(request.data)
        return tensor_pb2.WriteResponse(bytes=at)

    def Read(self, request: Any) -> Iterator[Any]:
        data = self._tensor(request.tensor).read()[request.offset : request.offset + request.bytes]
        for at in range(0, len(data), 1 << 20):
            yield tensor_pb2.ReadResponse(data=data[at : at + (1 << 20)])

    def Fill(self, request: Any) -> Any:
        memory = self._tensor(request.tensor)
        memory.write(request.pattern * (memory.nbytes // len(request.pattern)))
        return tensor_pb2.FillResponse()

    def Copy(self, request: Any) -> Any:
        self._tensor(request.destination).write(self._tensor(request.source).read())
        return tensor_pb2.CopyResponse()

    def Free(self, request: Any) -> Any:
        for handle in request.tensors:
            self._tensor(handle)
            os.close(self.tensors.pop(handle).fd)
        return tensor_pb2.FreeResponse()

    # Staging areas.

    def CreateStaging(self, request: Any) -> Any:
        if not self.memory_is_the_devices_own:
            message = "tensors on emulator:0 are shared memory"
            raise Refusal(grpc.StatusCode.FAILED_PRECONDITION, "UNSUPPORTED_TARGET", message)
        if self.refuse_areas:
            raise Refusal(grpc.StatusCode.RESOURCE_EXHAUSTED, self.refuse_areas, "no room for it")
        fd = os.memfd_create("staging", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(fd, request.bytes)
        if not self.unsealed_areas:
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
        handle, token = self._new_id("a"), self._new_id("token")
        self.areas[handle] = fd
        self.tokens[token] = [fd]
        return staging_pb2.CreateStagingResponse(staging=handle, bytes=request.bytes, token=token)

    def Transfer(self, request: Any) -> Any:
        if request.staging not in self.areas:
            raise not_found("HANDLE", f"no staging area {request.staging}")
        fd = self.areas[request.staging]
        for move in request.ranges:
            memory = self._tensor(move.tensor)
            assert move.tensor_offset + move.bytes <= memory.nbytes
            assert move.staging_offset + move.bytes <= os.fstat(fd).st_size
            if request.direction == staging_pb2.TRANSFER_DIRECTION_TO_TENSOR:
                memory.write(os.pread(fd, move.bytes, move.staging_offset), move.tensor_offset)
            else:
                data = memory.read()[move.tensor_offset : move.tensor_offset + move.bytes]
                os.pwrite(fd, data, move.staging_offset)
        return staging_pb2.TransferResponse()

    def FreeStaging(self, request: Any) -> Any:
        os.close(self.areas.pop(request.staging))
        return staging_pb2.FreeStagingResponse()

    # Kernels.

    def FindMissing(self, request: Any) -> Any:
        missing = [digest for digest in request.digests if digest not in self.uploads]
        return compile_pb2.FindMissingResponse(missing=missing)

    def Upload(self, requests: Iterator[Any]) -> Any:
        import hashlib

        digest = hashlib.sha256(b"".join(request.data for request in requests)).hexdigest()
        self.uploads.add(digest)
        return compile_pb2.UploadResponse(digest=digest)

    def Compile(self, request: Any) -> Iterator[Any]:
        text = bytes(request.ir)
        if b"broken" in text:
            raise Refusal(
                grpc.StatusCode.INVALID_ARGUMENT,
                "INVALID_IR",
                "expected ':'",
                line="3",
                column="7",
            )
        if dict(request.options).keys() - {"num_warps"}:
            raise Refusal(
                grpc.StatusCode.INVALID_ARGUMENT,
                "UNKNOWN_OPTION",
                "no such option",
                option="x",
            )
        name = next((name for name in SIGNATURES if name.encode() in text), "vector_add")
        yield compile_pb2.CompileResponse(stage_started=compile_pb2.StageStarted(level=kernel_pb2.LEVEL_PTX))
        yield compile_pb2.CompileResponse(stage_done=compile_pb2.StageDone(level=kernel_pb2.LEVEL_PTX, bytes=9))
        handle = self._new_id("k")
        self.kernels[handle] = name
        info = kernel_pb2.KernelInfo(name=name, num_warps=4, num_ctas=1, target="cuda:80:32")
        info.metadata_json = json.dumps({"num_warps": 4, "name": name})
        for argument, kind in SIGNATURES[name]:
            pointer = kind.startswith("*")
            info.arguments.add(
                name=argument,
                kind=kernel_pb2.ARGUMENT_KIND_POINTER if pointer else kernel_pb2.ARGUMENT_KIND_SCALAR,
                dtype=kernel_pb2.Dtype.Value("DTYPE_" + kind.lstrip("*")),
                bytes=8 if pointer else 4,
                divisibility=16 if pointer else 1,
            )
        compiled = compile_pb2.CompiledKernel(kernel=handle, info=info, toolchain="3.9.0", toolchain_reason="newest")
        compiled.artifacts.add(level=kernel_pb2.LEVEL_TTIR, bytes=len(text), digest="0" * 64)
        compiled.artifacts.add(level=kernel_pb2.LEVEL_PTX, bytes=9, digest="1" * 64)
        compiled.artifacts.add(level=kernel_pb2.LEVEL_CUBIN, bytes=4, digest="2" * 64)
        yield compile_pb2.CompileResponse(kernel=compiled)

    def GetArtifact(self, request: Any) -> Iterator[Any]:
        content = b"\177ELF" if request.level == kernel_pb2.LEVEL_CUBIN else b".version "
        for byte in content:
            yield compile_pb2.GetArtifactResponse(data=bytes([byte]))

    def ReleaseKernel(self, request: Any) -> Any:
        del self.kernels[request.kernel]
        return compile_pb2.ReleaseKernelResponse()

    # Launches.

    def Launch(self, request: Any) -> Any:
        try:
            result = self._run(request)
        except Refusal as refusal:
            if request.wait:
                raise
            self.pending_fault = refusal
            result = launch_pb2.LaunchResult()
        return launch_pb2.LaunchResponse(sequence=self.calls["Launch"], result=result)

    def _run(self, request: Any) -> Any:
        name = self.kernels[request.kernel]
        arguments = list(request.arguments)
        if request.deadline.nanos:
            raise Refusal(
                grpc.StatusCode.DEADLINE_EXCEEDED,
                "HUNG_KERNEL",
                "the launch passed its deadline",
            )
        if name == "vector_add":
            memories = [self._tensor(argument.tensor.tensor) for argument in arguments[:3]]
            x, y, out = (np.frombuffer(memory.read(), np.float32).copy() for memory in memories)
            n = arguments[3].int_value
            if n > out.size:
                fault = error_pb2.FaultReport(
                    kernel_name=name,
                    instruction="st.global.b32",
                    ptx_line=40,
                    source_file="vector_add.py",
                    source_line=12,
                    program=[1, 0, 0],
                    thread=[5, 0, 0],
                    address=0x2000,
                    access_bytes=4,
                    space="global",
                    is_write=True,
                    nearest_tensor=arguments[2].tensor.tensor,
                    nearest_tensor_offset=out.nbytes,
                    nearest_tensor_bytes=out.nbytes,
                )
                message = "a store one element past a tensor"
                raise Refusal(grpc.StatusCode.ABORTED, "ILLEGAL_ADDRESS", message, fault)
            out[:n] = x[:n] + y[:n]
            memories[2].write(out.tobytes())
        result = launch_pb2.LaunchResult(warp_instructions=17, printed="hello\n")
        result.device_time.nanos = 2500
        return result

    def Synchronize(self, request: Any) -> Any:
        fault, self.pending_fault = self.pending_fault, None
        if fault is not None:
            raise fault
        return launch_pb2.SynchronizeResponse(last_sequence=self.calls["Launch"], printed="later\n")

    def Benchmark(self, request: Any) -> Any:
        response = launch_pb2.BenchmarkResponse(warp_instructions=17)
        for i in range(request.repetitions):
            response.device_times.add(nanos=1000 + i)
        return response

    # What there is.

    def ListDevices(self, request: Any) -> Any:
        response = device_pb2.ListDevicesResponse()
        response.devices.add(device="emulator:0", name="fake", target="cuda:80:32", is_default=True)
        return response

    def ListToolchains(self, request: Any) -> Any:
        response = toolchain_pb2.ListToolchainsResponse()
        response.toolchains.add(name="3.9.0", version="3.9.0")
        return response

    def DescribeToolchain(self, request: Any) -> Any:
        if request.name != "3.9.0":
            raise not_found("TOOLCHAIN_NOT_FOUND", f"no toolchain {request.name}")
        response = toolchain_pb2.DescribeToolchainResponse()
        response.options.add(name="num_warps", type="int", default_json="4")
        return response


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--socket", required=True)
    parser.add_argument("--log-file")
    parser.add_argument("--ready-fd", type=int)
    parser.add_argument("--private", action="store_true")
    flags = parser.parse_args()
    if os.environ.get("FAKE_TRUND_FAILS"):
        print("cannot open the cache: locked", file=sys.stderr)
        sys.exit(3)
    with open(os.path.join(os.path.dirname(flags.socket), "starts"), "a") as starts:
        starts.write(f"{os.getpid()}\n")
    FakeTrund(os.path.dirname(flags.socket))
    os.write(flags.ready_fd, b"1")
    os.close(flags.ready_fd)
    signal.alarm(60)  # a test that forgets it does not leave it behind
    signal.pause()


if __name__ == "__main__":
    main()
