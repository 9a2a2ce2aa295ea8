"""Bytes to and from tensors that only a GPU can touch: through memory that it copies from by itself.

A staging area is a sealed memfd that this process and the session's executor map (StagingService). Arrays of
Session.pinned() lie in one of their own: they travel as they are. All others are copied through the session's own area,
by several threads, while the GPU copies what is there already.
"""

from __future__ import annotations

import collections
import concurrent.futures
import itertools
import mmap
import os
import threading
import weakref
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from trun._descriptors import is_sealed, receive_descriptors
from trun.errors import OutOfMemoryError, ProtocolError, QuotaError, TrunError, UnsupportedTargetError
from trun.v1 import staging_pb2

if TYPE_CHECKING:
    from trun.session import Session

# Below this a stream costs less than a transfer, or than the making of the session's own area.
LEAST_BYTES = 256 << 10
LEAST_FIRST_BYTES = 4 << 20
# What one thread copies at a time, and hands to the GPU. A call costs this interpreter a quarter of a millisecond.
PIECE_BYTES = 16 << 20
MOST_THREADS = 8

TO_TENSOR = staging_pb2.TRANSFER_DIRECTION_TO_TENSOR
FROM_TENSOR = staging_pb2.TRANSFER_DIRECTION_FROM_TENSOR


class Area:
    """A staging area, mapped. It is given back some time after the last array in it is gone."""

    def __init__(self, handle: str, memory: mmap.mmap, nbytes: int, abandoned: collections.deque[str]) -> None:
        self.handle = handle
        self.unpinned_reason = ""
        self.bytes: npt.NDArray[np.uint8] = np.frombuffer(memory, np.uint8, nbytes)
        self.begin: int = self.bytes.ctypes.data
        self.end = self.begin + nbytes
        # Not freed from here: a finalizer may run at any time on any thread.
        weakref.finalize(memory, abandoned.append, handle).atexit = False


class Staging:
    """The staging areas of one session. Thread-safe."""

    def __init__(self, descriptor_socket: str) -> None:
        self._descriptor_socket = descriptor_socket
        self.abandoned: collections.deque[str] = collections.deque()
        self._pinned: dict[str, tuple[int, int]] = {}
        self._lock = threading.Lock()
        self._copy_lock = threading.Lock()  # one copy at a time has the session's own area
        self._own: Area | None = None
        self._threads: concurrent.futures.ThreadPoolExecutor | None = None
        self._refused = False

    def pinned(self, session: Session, nbytes: int) -> npt.NDArray[np.uint8]:
        """Zeroed memory that the GPU copies from and to by itself; ordinary memory where there is no such thing."""
        try:
            area = self._create(session, nbytes)
        except UnsupportedTargetError:
            return np.zeros(nbytes, np.uint8)
        with self._lock:
            self._pinned[area.handle] = (area.begin, area.end)
        return area.bytes

    def forget(self, handles: list[str]) -> None:
        """Areas that were given back."""
        with self._lock:
            for handle in handles:
                self._pinned.pop(handle, None)

    def write(self, session: Session, tensor: str, data: memoryview) -> bool:
        """False: not this way; nothing was moved."""
        return self._move(session, tensor, np.frombuffer(data, np.uint8), TO_TENSOR)

    def read(self, session: Session, tensor: str, out: memoryview) -> bool:
        """False: not this way; nothing was moved."""
        return self._move(session, tensor, np.frombuffer(out, np.uint8), FROM_TENSOR)

    def _move(self, session: Session, tensor: str, array: npt.NDArray[np.uint8], direction: int) -> bool:
        begin, end = array.ctypes.data, array.ctypes.data + array.nbytes
        with self._lock:
            holding = [
                (handle, first) for handle, (first, last) in self._pinned.items() if first <= begin and end <= last
            ]
        for handle, first in holding:
            _transfer(session, handle, direction, begin - first, tensor, 0, array.nbytes)
            return True
        if self._refused or array.nbytes < (LEAST_BYTES if self._own is not None else LEAST_FIRST_BYTES):
            return False
        with self._copy_lock:
            area = self._own_area(session)
            if area is None:
                return False
            self._copy(session, tensor, array, direction, area)
        return True

    def _copy(self, session: Session, tensor: str, array: npt.NDArray[np.uint8], direction: int, area: Area) -> None:
        pieces = itertools.count()  # next() on it is atomic
        failed = threading.Event()

        def run(slot: int) -> None:
            staged = area.bytes[slot * PIECE_BYTES : (slot + 1) * PIECE_BYTES]
            for piece in pieces:
                part = array[piece * PIECE_BYTES : (piece + 1) * PIECE_BYTES]
                if not part.nbytes or failed.is_set():
                    return
                where = (slot * PIECE_BYTES, tensor, piece * PIECE_BYTES, part.nbytes)
                try:
                    # Copies and calls alike give up the interpreter's lock while they last.
                    if direction == TO_TENSOR:
                        np.copyto(staged[: part.nbytes], part)
                    _transfer(session, area.handle, direction, *where)
                    if direction == FROM_TENSOR:
                        np.copyto(part, staged[: part.nbytes])
                except BaseException:
                    failed.set()
                    raise

        slots = min(area.bytes.nbytes // PIECE_BYTES, -(-array.nbytes // PIECE_BYTES))
        assert self._threads is not None
        others = [self._threads.submit(run, slot) for slot in range(1, slots)]
        try:
            run(0)
        finally:
            concurrent.futures.wait(others)  # they use the caller's array
        for other in others:
            other.result()

    def _own_area(self, session: Session) -> Area | None:
        if self._own is None and not self._refused:
            threads = max(1, min(MOST_THREADS, (os.cpu_count() or 1) // 2))
            try:
                self._own = self._create(session, threads * PIECE_BYTES)
            except (UnsupportedTargetError, QuotaError, OutOfMemoryError):
                self._refused = True  # bytes still travel on a stream
                return None
            self._threads = concurrent.futures.ThreadPoolExecutor(threads, "trun-copy")
        return self._own

    def _create(self, session: Session, nbytes: int) -> Area:
        def not_here(why: object) -> UnsupportedTargetError:
            message = f"no memory can be shared with {session.device}: {why}"
            return UnsupportedTargetError(message, reason="UNSUPPORTED_TARGET", code="FAILED_PRECONDITION")

        if not self._descriptor_socket:
            raise not_here("the daemon names no descriptor socket")
        session._free_abandoned()
        request = staging_pb2.CreateStagingRequest(session=session.id, bytes=nbytes)
        response = session._call("StagingService.CreateStaging", request)
        try:
            descriptors = receive_descriptors(self._descriptor_socket, response.token)
        except TrunError as error:
            self.abandoned.append(response.staging)
            raise not_here(error) from error
        try:
            # The descriptor's own size and seals are what counts: past its end a mapping ends this process with SIGBUS.
            if len(descriptors) != 1 or not is_sealed(descriptors[0]):
                self.abandoned.append(response.staging)
                raise not_here("the staging area is not sealed against shrinking")
            size = os.fstat(descriptors[0]).st_size
            if size < nbytes:
                raise ProtocolError("the staging area is too small", reason="PROTOCOL", code="INTERNAL")
            flags = mmap.MAP_SHARED | getattr(mmap, "MAP_POPULATE", 0)
            area = Area(response.staging, mmap.mmap(descriptors[0], size, flags), nbytes, self.abandoned)
            area.unpinned_reason = response.unregistered_reason
            return area
        finally:
            for descriptor in descriptors:
                os.close(descriptor)


def _transfer(
    session: Session, staging: str, direction: int, staging_offset: int, tensor: str, offset: int, nbytes: int
) -> None:
    request = staging_pb2.TransferRequest(session=session.id, staging=staging, direction=direction)  # type: ignore[arg-type]
    request.ranges.add(staging_offset=staging_offset, tensor=tensor, tensor_offset=offset, bytes=nbytes)
    session._call("StagingService.Transfer", request, timeout=None)
