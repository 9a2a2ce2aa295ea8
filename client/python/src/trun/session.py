"""A session: everything a client makes on one device of one daemon."""

from __future__ import annotations

import collections
import contextlib
import hashlib
import json
import os
import pathlib
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from trun import _dtypes
from trun._descriptors import deposit_descriptor, is_sealed, receive_descriptors
from trun._html import table
from trun._rpc import (
    CALL_TIMEOUT_S,
    MAX_CHUNK_BYTES,
    PROTOCOL_VERSION,
    Connection,
    to_duration,
    to_seconds,
)
from trun._staging import Staging
from trun._version import __version__
from trun.errors import (
    MetadataError,
    ProtocolError,
    SessionExpiredError,
    TooLargeError,
    TrunError,
    UnsupportedTargetError,
    argument_error,
)
from trun.kernel import (
    LEVELS,
    Kernel,
    Seconds,
    Stage,
    _Call,
    level_name,
    level_number,
    seconds_of,
)
from trun.tensor import Memory, Tensor, raw_memory
from trun.v1 import (
    compile_pb2,
    device_pb2,
    kernel_pb2,
    launch_pb2,
    session_pb2,
    staging_pb2,
    tensor_pb2,
    toolchain_pb2,
)

Source: TypeAlias = "str | bytes | os.PathLike[str]"
Metadata: TypeAlias = "str | Mapping[str, Any] | os.PathLike[str]"

MAX_FILE_BYTES = 64 << 20
_MAX_INLINE_BYTES = 2 << 20
_COMPILE_SLACK_S = 30.0
# Device memory kept for the arrays of the next launch.
_STAGING_BYTES = 64 << 20
_STAGING_TENSORS = 64  # each holds a descriptor
_EXTENSIONS = {"py": "python", "ll": "llir"}


@dataclass(frozen=True)
class Device:
    device: str  # "emulator:0"
    name: str
    target: str
    memory_bytes: int
    multiprocessors: int
    max_shared_bytes: int
    is_default: bool
    unusable_reason: str  # empty: usable


@dataclass(frozen=True)
class Toolchain:
    name: str
    version: str
    id: str
    path: str
    adopted: bool
    unusable_reason: str  # empty: usable


@dataclass(frozen=True)
class CompileOption:
    name: str
    type: str
    default: Any


def read_source(source: Source) -> tuple[bytes, str]:
    """The bytes of a kernel and the path they come from ("" for text). A string with a line break is text."""
    if isinstance(source, bytes):
        return source, ""
    if isinstance(source, str) and "\n" in source:
        return source.encode(), ""
    path = pathlib.Path(source)
    with open(path, "rb") as file:
        content = file.read(MAX_FILE_BYTES + 1)
    if len(content) > MAX_FILE_BYTES:
        raise TooLargeError(
            f"'{path}' is larger than {MAX_FILE_BYTES} bytes, the limit for a kernel file",
            reason="TOO_LARGE",
            code="RESOURCE_EXHAUSTED",
            details={"limit": str(MAX_FILE_BYTES)},
        )
    return content, str(path)


def read_metadata(metadata: Metadata | None, path: str, level: str | None) -> str:
    """The JSON to send. None: the .json beside the file, as in a Triton cache folder, where there is one."""
    if isinstance(metadata, Mapping):
        return json.dumps(dict(metadata))
    if metadata is None:
        beside = pathlib.Path(path).with_suffix(".json") if path and level not in ("python", "gluon", "ttir") else None
        return beside.read_text() if beside is not None and beside.is_file() else ""
    text = os.fspath(metadata)
    if not text or text.lstrip().startswith("{"):
        return text
    try:
        return pathlib.Path(text).read_text()
    except UnicodeDecodeError:
        raise MetadataError(f"'{text}' is not text", reason="METADATA", code="INVALID_ARGUMENT") from None


def _level_of_name(path: str) -> str | None:
    extension = pathlib.Path(path).suffix[1:].lower()
    extension = _EXTENSIONS.get(extension, extension)
    return extension if extension in LEVELS else None


def _end(connection: Connection, session: str, stop: threading.Event) -> None:
    """Closes a session that nobody holds any more. Errors have nobody left to hear them: its lease ends it too."""
    stop.set()
    if os.getpid() != connection.pid:
        return
    with contextlib.suppress(TrunError, ValueError):  # ValueError: the channel is closed already
        connection.call(
            "SessionService.CloseSession",
            session_pb2.CloseSessionRequest(session=session),
            timeout=5,
        )
    connection.close()


def _keep_alive(reference: weakref.ref[Session], stop: threading.Event, interval: float) -> None:
    while not stop.wait(interval):
        session = reference()
        if session is None or os.getpid() != session._connection.pid:
            return
        try:
            request = session_pb2.KeepAliveRequest(session=session.id)
            session._connection.call("SessionService.KeepAlive", request, timeout=max(interval, 1.0))
            session._free_abandoned(interval)  # however many there are, the lease is renewed between them
        except SessionExpiredError:
            return
        except (TrunError, ValueError):
            pass  # tried again at the next interval; the user's own calls report what is wrong
        del session


class Session:
    """Kernels, tensors and launches on one device. Thread-safe. A context manager; closing it returns its memory.

    Made by trun.connect(). Its lease is renewed in the background. After a fork it belongs to the parent alone.
    """

    def __init__(
        self,
        connection: Connection,
        device: str | None = None,
        *,
        name: str | None = None,
        lease: float = 30.0,
        memory_limit: int = 0,
    ) -> None:
        self._connection = connection
        self._closed = False
        request = session_pb2.OpenSessionRequest(
            protocol_version=PROTOCOL_VERSION,
            client_name=name or f"trun-python {__version__}",
            device=device or os.environ.get("TRUN_DEVICE", ""),
            lease=to_duration(lease),
            memory_limit_bytes=memory_limit,
        )
        opened = connection.call("SessionService.OpenSession", request)
        self.id: str = opened.session
        self.device: str = opened.device
        self.device_name: str = opened.device_name
        self.target: str = opened.device_target
        self.server_version: str = opened.server_version
        self.memory_limit_bytes: int = opened.memory_limit_bytes
        self._descriptor_socket: str = opened.descriptor_socket
        self._deposit_socket: str = opened.descriptor_socket
        self._queued = False  # launches that nobody waited for
        self._abandoned_tensors: collections.deque[str] = collections.deque()
        self._abandoned_kernels: collections.deque[str] = collections.deque()
        self._staging_lock = threading.Lock()
        self._staging: dict[tuple[int, int], list[Tensor]] = {}
        self._staging_bytes = 0
        self._staging_count = 0
        self._transfers = Staging(opened.descriptor_socket)
        self._stop = threading.Event()
        self._finalizer = weakref.finalize(self, _end, connection, self.id, self._stop)
        interval = max(to_seconds(opened.lease), 0.3) / 3
        arguments = (weakref.ref(self), self._stop, interval)
        threading.Thread(target=_keep_alive, args=arguments, name="trun-keep-alive", daemon=True).start()

    # Life.

    @property
    def closed(self) -> bool:
        return self._closed

    @property
    def address(self) -> str:
        return self._connection.address

    @property
    def started_daemon(self) -> bool:
        """Whether connect() started the daemon."""
        return self._connection.started_daemon

    def close(self) -> None:
        """Cancels its launches and returns its memory. Closing twice is fine."""
        self._closed = True
        self._finalizer()

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self._closed else self.target
        return f"trun.Session({self.device!r}, {state}, {self.address!r})"

    def _repr_html_(self) -> str:
        rows = [
            ("device", f"{self.device}: {self.device_name}"),
            ("target", self.target),
        ]
        rows += [
            ("daemon", f"{self.address}, version {self.server_version}"),
            ("id", self.id),
        ]
        return table("trun.Session" + (" (closed)" if self._closed else ""), rows)

    # Kernels.

    def load(
        self,
        source: Source,
        *,
        metadata: Metadata | None = None,
        level: str | None = None,
        options: Mapping[str, Any] | None = None,
        toolchain: str | None = None,
        target: str | None = None,
        to: str | None = None,
        kernel_name: str | None = None,
        deadline: Seconds | None = None,
        recompile: bool = False,
        passes: bool = False,
        after_pass: str | None = None,
        progress: Callable[[str], None] | None = None,
    ) -> Kernel:
        """Compiles a kernel (or finds it in the cache) and loads it.

        source: a path, or the text itself (a string with a line break, or bytes).
        metadata: Triton's JSON for it, as a path, text or dict; by default the .json beside the file, if any.
        level: "ttir", "ttgir", ...; by default from the file's name, else from its contents.
        options: compile options of the toolchain, {"num_warps": 8}.
        toolchain: "3.9.0"; by default chosen by the daemon, which says why in kernel.toolchain_reason.
        target, to: another architecture ("sm_90") or last level ("cubin") than the session's device loads.
        passes: run the passes one by one, for kernel.passes().
        after_pass: the source is what this pass left behind ("ttgir/coalesce"): begin after it.
        progress: called with the name of each level as its stage starts.
        """
        content, path = read_source(source)
        level = level or _level_of_name(path)
        request = compile_pb2.CompileRequest(
            session=self.id,
            level=level_number(level) if level else kernel_pb2.LEVEL_UNSPECIFIED,
            file_name=path,
            metadata_json=read_metadata(metadata, path, level),
            target=target or "",
            toolchain=toolchain or "",
            options={key: json.dumps(value) for key, value in (options or {}).items()},
            last_level=level_number(to) if to else kernel_pb2.LEVEL_UNSPECIFIED,
            kernel_name=kernel_name or "",
            recompile=recompile,
            record_passes=passes,
            resume_after_pass=after_pass or "",
        )
        limit = None
        if deadline is not None:
            request.deadline.CopyFrom(to_duration(seconds_of(deadline)))
            limit = seconds_of(deadline) + _COMPILE_SLACK_S
        if len(content) <= _MAX_INLINE_BYTES:
            request.ir = content
        else:
            request.digest = self._upload(content)
        self._free_abandoned()
        stages: list[Stage] = []
        compiled = None
        for event in self._receive("CompileService.Compile", request, timeout=limit, file=path):
            kind = event.WhichOneof("event")
            if kind == "kernel":
                compiled = event.kernel
            elif kind == "stage_done":
                done = event.stage_done
                stages.append(
                    Stage(
                        level_name(done.level),
                        to_seconds(done.time),
                        done.cached,
                        done.bytes,
                    )
                )
            elif kind == "stage_started" and progress is not None:
                progress(level_name(event.stage_started.level))
        if compiled is None:
            raise ProtocolError(
                "the daemon ended the compile without a kernel",
                reason="PROTOCOL",
                code="INTERNAL",
            )
        return Kernel(self, compiled, stages)

    def _upload(self, content: bytes) -> str:
        if len(content) > MAX_FILE_BYTES:
            raise TooLargeError(
                f"the kernel has {len(content)} bytes; the limit is {MAX_FILE_BYTES}",
                reason="TOO_LARGE",
                code="RESOURCE_EXHAUSTED",
                details={"limit": str(MAX_FILE_BYTES)},
            )
        digest = hashlib.sha256(content).hexdigest()
        find = compile_pb2.FindMissingRequest(session=self.id, digests=[digest])
        if not self._call("CompileService.FindMissing", find).missing:
            return digest

        def chunks() -> Iterator[compile_pb2.UploadRequest]:
            for at in range(0, len(content), MAX_CHUNK_BYTES):
                part = content[at : at + MAX_CHUNK_BYTES]
                yield compile_pb2.UploadRequest(session=self.id if at == 0 else "", data=part)

        received = self._send("CompileService.Upload", chunks()).digest
        if received != digest:
            raise TrunError(
                f"the daemon received {received} where {digest} was sent",
                reason="CORRUPT",
                code="DATA_LOSS",
            )
        return digest

    # Tensors.

    def tensor(self, array: npt.ArrayLike, dtype: Any = None) -> Tensor:
        """A new tensor with an array's values, shape and element type."""
        values = np.asarray(array, dtype=None if dtype is None else _dtypes.to_dtype(dtype))
        return self.zeros(values.shape, values.dtype).copy_from(values)

    def empty(self, shape: int | Sequence[int], dtype: Any = np.float32) -> Tensor:
        """A new tensor that a kernel is to write.

        The daemon hands out zeroed memory, so it holds what zeros() does; a launch with check="uninit" reports reads
        of what neither this program nor a launch has written of it.
        """
        tensor = self.zeros(shape, dtype)
        tensor._written = False
        return tensor

    def zeros(self, shape: int | Sequence[int], dtype: Any = np.float32) -> Tensor:
        """A new tensor of zeros."""
        extents = (shape,) if isinstance(shape, (int, np.integer)) else tuple(shape)
        return self._allocate([(_dtypes.to_dtype(dtype), tuple(int(n) for n in extents))])[0]

    def pinned(self, shape: int | Sequence[int], dtype: Any = np.float32) -> npt.NDArray[Any]:
        """An array of zeros in memory that the session's GPU copies from and to by itself.

        tensor(), copy_from() and numpy(out=...) move such arrays, and parts of them, without a copy by this process: do
        not change one while it travels. Charged like tensors. On the emulator, and far from the daemon, an ordinary
        array.
        """
        extents = (shape,) if isinstance(shape, (int, np.integer)) else tuple(shape)
        of = _dtypes.to_dtype(dtype)
        nbytes = int(np.prod(extents, dtype=np.int64)) * of.itemsize
        if nbytes == 0:
            return np.zeros(extents, of)
        return self._transfers.pinned(self, nbytes).view(of).reshape(extents)

    def _allocate(self, specs: Sequence[tuple[np.dtype[Any], tuple[int, ...]]]) -> list[Tensor]:
        self._free_abandoned()
        request = tensor_pb2.AllocateRequest(session=self.id)
        for dtype, shape in specs:
            if any(n < 0 for n in shape):
                raise argument_error(f"a tensor of shape {shape} cannot be")
            request.tensors.add(dtype=_dtypes.wire_dtype(dtype), shape=shape)
        infos = self._call("TensorService.Allocate", request).tensors
        if len(infos) != len(specs):
            raise ProtocolError(
                f"the daemon allocated {len(infos)} tensors where {len(specs)} were asked for",
                reason="PROTOCOL",
                code="INTERNAL",
            )
        return [Tensor(self, info, dtype) for info, (dtype, _) in zip(infos, specs, strict=True)]

    def _allocate_bytes(self, nbytes: int) -> Tensor:
        """Memory without an element type: any pointer argument takes it."""
        self._free_abandoned()
        request = tensor_pb2.AllocateRequest(session=self.id)
        request.tensors.add(shape=[nbytes])
        infos = self._call("TensorService.Allocate", request).tensors
        if len(infos) != 1:
            raise ProtocolError("the daemon allocated no tensor", reason="PROTOCOL", code="INTERNAL")
        return Tensor(self, infos[0], np.dtype(np.uint8))

    def _import_exported(self, descriptor: int, address: int, nbytes: int) -> Tensor:
        """Memory of this process on the session's GPU, exported by the driver, at the address it has here."""
        if not self._deposit_socket:
            raise UnsupportedTargetError(
                f"the memory of this process cannot be given to {self.device}: the daemon names no descriptor socket; "
                "it has to be on this machine",
                reason="UNSUPPORTED_TARGET",
                code="FAILED_PRECONDITION",
            )
        request = tensor_pb2.ImportRequest(session=self.id, bytes=nbytes)
        request.exported.token = deposit_descriptor(self._deposit_socket, descriptor)
        request.exported.device_address = address
        return self._import(request)

    def _import_ipc(self, handle: bytes, nbytes: int) -> Tensor:
        """Memory of this process on the session's GPU by its CUDA IPC handle; gone with the session's executor."""
        return self._import(tensor_pb2.ImportRequest(session=self.id, bytes=nbytes, ipc_handle=handle))

    def _import(self, request: tensor_pb2.ImportRequest) -> Tensor:
        self._free_abandoned()
        info = self._call("TensorService.Import", request, timeout=None).tensor  # behind launches
        if info.bytes != request.bytes:
            raise ProtocolError("the daemon imported another size", reason="PROTOCOL", code="INTERNAL")
        return Tensor(self, info, np.dtype(np.uint8))

    def _share_memory(self, tensors: list[Tensor]) -> None:
        """Takes descriptors for tensors whose memory this process can map; marks those whose it cannot."""
        if not self._descriptor_socket:
            for tensor in tensors:
                tensor._unmappable = True
            return
        request = session_pb2.ExportDescriptorsRequest(session=self.id, tensors=[t.handle for t in tensors])
        try:
            response = self._call("SessionService.ExportDescriptors", request)
        except UnsupportedTargetError:  # a GPU's memory, which only its executor maps: it is written and read instead
            self._descriptor_socket = ""
            return self._share_memory(tensors)
        descriptors = receive_descriptors(self._descriptor_socket, response.token)
        try:
            if len(response.tensors) != len(tensors):
                raise ProtocolError(
                    "the daemon exported another number of tensors",
                    reason="PROTOCOL",
                    code="INTERNAL",
                )
            for tensor, exported in zip(tensors, response.tensors, strict=True):
                index = exported.descriptor_index
                # The descriptor's own size is what counts: past its end a mapping ends this process with SIGBUS.
                if index >= len(descriptors) or not is_sealed(descriptors[index]):
                    tensor._unmappable = True
                    continue
                if exported.offset + tensor.nbytes > os.fstat(descriptors[index]).st_size:
                    raise ProtocolError(
                        f"tensor {tensor.handle} reaches past the end of its descriptor",
                        reason="PROTOCOL",
                        code="INTERNAL",
                    )
                tensor._memory = Memory(os.dup(descriptors[index]), exported.offset, tensor.nbytes)
        finally:
            for descriptor in descriptors:
                os.close(descriptor)

    def _stream_write(self, handle: str, data: memoryview) -> None:
        def chunks() -> Iterator[tensor_pb2.WriteRequest]:
            for at in range(0, len(data), MAX_CHUNK_BYTES):
                part = bytes(data[at : at + MAX_CHUNK_BYTES])
                if at == 0:
                    yield tensor_pb2.WriteRequest(session=self.id, tensor=handle, data=part)
                else:
                    yield tensor_pb2.WriteRequest(data=part)

        self._send("TensorService.Write", chunks())

    def _stream_read(self, handle: str, out: memoryview) -> None:
        request = tensor_pb2.ReadRequest(session=self.id, tensor=handle, bytes=len(out))
        at = 0
        for part in self._receive("TensorService.Read", request):
            data = part.data
            if at + len(data) > len(out):
                break
            out[at : at + len(data)] = data
            at += len(data)
        else:
            if at == len(out):
                return
        raise ProtocolError(
            f"the daemon did not send the {len(out)} bytes asked for",
            reason="PROTOCOL",
            code="INTERNAL",
        )

    def _fence(self, tensor: Tensor) -> None:
        """Waits for the launches queued before: what a Read does. It takes no fault away from synchronize()."""
        if self._queued:
            self._stream_read(tensor.handle, memoryview(bytearray(1)))

    # Launches.

    def synchronize(self) -> str:
        """Waits for every launch queued before; raises the first fault since the last call, once.

        Returns what device_print wrote since then.
        """
        request = launch_pb2.SynchronizeRequest(session=self.id)
        response = self._call("LaunchService.Synchronize", request, timeout=None)
        self._queued = False
        return str(response.printed)

    def _launch(self, request: launch_pb2.LaunchRequest, limit: float, wait: bool) -> Any:
        if not wait:
            self._queued = True
        return self._call("LaunchService.Launch", request, timeout=limit)

    @contextlib.contextmanager
    def _staged(self, call: _Call) -> Iterator[None]:
        """Device tensors with the arrays of a launch; kept for the next launch unless this one fails."""
        if not call.arrays:
            yield
            return
        arrays = {id(array): array for _, array in call.arrays}  # one given twice is one tensor
        tensors: dict[int, Tensor] = {}
        fresh: list[int] = []
        for key, array in arrays.items():
            kept = self._take_staging(array)
            if kept is None:
                fresh.append(key)
            else:
                tensors[key] = kept
        if fresh:
            specs = [(arrays[key].dtype, (arrays[key].size,)) for key in fresh]
            tensors |= zip(fresh, self._allocate_staging(specs), strict=True)
            # They are used again and again: one exchange of descriptors now saves two streams for each launch.
            self._share_memory([tensors[key] for key in fresh])
        for key, array in arrays.items():
            tensors[key]._write(raw_memory(array))
        for position, array in call.arrays:
            tensor = tensors[id(array)]
            call.staged.append(tensor)
            call.wire[position].tensor.tensor = tensor.handle
        yield
        for key, array in arrays.items():
            self._keep_staging(array, tensors[key])

    def _take_staging(self, array: npt.NDArray[Any]) -> Tensor | None:
        with self._staging_lock:
            kept = self._staging.get((_dtypes.wire_dtype(array.dtype), array.nbytes))
            if not kept:
                return None
            self._staging_bytes -= array.nbytes
            self._staging_count -= 1
            return kept.pop()

    def _keep_staging(self, array: npt.NDArray[Any], tensor: Tensor) -> None:
        with self._staging_lock:
            kept = self._staging.setdefault((_dtypes.wire_dtype(array.dtype), array.nbytes), [])
            full = self._staging_bytes + array.nbytes > _STAGING_BYTES or self._staging_count >= _STAGING_TENSORS
            if self._closed or full:
                return
            self._staging_count += 1
            self._staging_bytes += array.nbytes
            kept.append(tensor)

    def _allocate_staging(self, specs: Sequence[tuple[np.dtype[Any], tuple[int, ...]]]) -> list[Tensor]:
        try:
            return self._allocate(specs)
        except TrunError as error:
            if error.reason not in ("OUT_OF_MEMORY", "QUOTA"):
                raise
        with self._staging_lock:  # what is kept for later is in the way
            self._staging.clear()
            self._staging_bytes = self._staging_count = 0
        return self._allocate(specs)

    # What there is.

    def devices(self) -> list[Device]:
        """Every device of the daemon, usable or not."""
        response = self._call("DeviceService.ListDevices", device_pb2.ListDevicesRequest())
        return [
            Device(
                d.device,
                d.name,
                d.target,
                d.memory_bytes,
                d.multiprocessors,
                d.max_shared_bytes,
                d.is_default,
                d.unusable_reason,
            )
            for d in response.devices
        ]

    def toolchains(self) -> list[Toolchain]:
        """Every Triton that the daemon has."""
        response = self._call("ToolchainService.ListToolchains", toolchain_pb2.ListToolchainsRequest())
        return [Toolchain(t.name, t.version, t.id, t.path, t.adopted, t.unusable_reason) for t in response.toolchains]

    def describe_toolchain(self, name: str) -> list[CompileOption]:
        """Every compile option of a toolchain, with its default."""
        request = toolchain_pb2.DescribeToolchainRequest(name=name)
        response = self._call("ToolchainService.DescribeToolchain", request)
        return [
            CompileOption(o.name, o.type, json.loads(o.default_json) if o.default_json else None)
            for o in response.options
        ]

    # Calls.

    def _check_open(self) -> None:
        if self._closed:
            raise SessionExpiredError(
                f"session {self.id} was closed",
                reason="SESSION_EXPIRED",
                code="NOT_FOUND",
            )

    def _call(self, name: str, request: Any, timeout: float | None = 60.0) -> Any:
        self._check_open()
        return self._connection.call(name, request, timeout)

    def _send(self, name: str, requests: Iterator[Any]) -> Any:
        self._check_open()
        return self._connection.send(name, requests)

    def _receive(self, name: str, request: Any, timeout: float | None = None, file: str = "") -> Iterator[Any]:
        self._check_open()
        return self._connection.receive(name, request, timeout, file)

    # Handles whose last reference is gone. Only noted there: a destructor may run at any time, on any thread.

    def _abandon_tensor(self, handle: str) -> None:
        self._abandoned_tensors.append(handle)

    def _abandon_kernel(self, handle: str) -> None:
        self._abandoned_kernels.append(handle)

    def _free_abandoned(self, limit: float = CALL_TIMEOUT_S) -> None:
        """Those that it does not come to within the limit are left for the next time."""
        if self._closed or os.getpid() != self._connection.pid:
            return
        tensors = _drain(self._abandoned_tensors)
        kernels = _drain(self._abandoned_kernels)
        areas = _drain(self._transfers.abandoned)
        self._transfers.forget(areas)
        ends = time.monotonic() + limit

        def call(name: str, request: Any) -> None:
            # A handle that cannot be freed goes with its session.
            with contextlib.suppress(TrunError):
                self._connection.call(name, request, timeout=max(ends - time.monotonic(), 0.1))

        if tensors:
            call("TensorService.Free", tensor_pb2.FreeRequest(session=self.id, tensors=tensors))
        while kernels and time.monotonic() < ends:
            request = compile_pb2.ReleaseKernelRequest(session=self.id, kernel=kernels.pop())
            call("CompileService.ReleaseKernel", request)
        while areas and time.monotonic() < ends:
            call("StagingService.FreeStaging", staging_pb2.FreeStagingRequest(session=self.id, staging=areas.pop()))
        self._abandoned_kernels.extend(kernels)
        self._transfers.abandoned.extend(areas)


def _drain(queue: collections.deque[str]) -> list[str]:
    taken = []
    with contextlib.suppress(IndexError):
        while True:
            taken.append(queue.popleft())
    return taken
