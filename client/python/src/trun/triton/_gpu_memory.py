"""Memory of the program on its GPU, as the daemon's executor reaches it.

Segments are imported at the program's own addresses, each once and all of them, since a kernel may follow an address
that lies in memory. A tensor that is elsewhere, in memory that something else has allocated, is imported with the whole
allocation it lies in, by its CUDA IPC handle; such memory is somewhere else in the executor, and is imported anew when
the executor was replaced.
"""

from __future__ import annotations

import threading
from types import ModuleType
from typing import Any

from trun.errors import ArgumentError, TrunError, argument_error, make_error
from trun.session import Session
from trun.tensor import Tensor
from trun.triton._memory import check_null
from trun.triton._segments import DEVICE, Segment, Segments

_LAUNCHES_BETWEEN_SWEEPS = 64
_SAME_GPUS = (
    "The daemon and the program have to see the same GPU as their first (CUDA_VISIBLE_DEVICES, TRUN_DEVICE), in one "
    "IPC namespace; placement='in-process' needs neither"
)
_INSTEAD = "copy it to the GPU, or use placement='in-process'"


class GpuMemory:
    """What of the program's memory one session has. Thread-safe."""

    def __init__(self, session: Session, segments: Segments, native: ModuleType) -> None:
        self.session = session
        self._segments = segments
        self._native = native
        self._lock = threading.Lock()
        self._seen = -1  # of segments.changes
        self._imported: dict[int, tuple[Segment, Tensor]] = {}
        self._foreign: dict[int, tuple[int, Tensor]] = {}  # by base: the allocation's number
        self._launches = 0

    def stage(self) -> GpuArguments:
        with self._lock:
            self._import_segments()
            self._launches += 1
            if self._launches % _LAUNCHES_BETWEEN_SWEEPS == 0:
                self._sweep()
        return GpuArguments(self)

    def forget_foreign(self) -> bool:
        """What was imported into an executor that is gone. True where there was some."""
        with self._lock:
            had = bool(self._foreign)
            self._foreign.clear()  # freed with its last reference
        return had

    def _import_segments(self) -> None:
        if self._segments.refresh() == self._seen:
            return
        seen, live = self._segments.live()
        for address, (segment, tensor) in list(self._imported.items()):
            if live.get(address) is not segment:
                del self._imported[address]
                tensor.free()
        for address, segment in live.items():
            if address not in self._imported:
                self._imported[address] = segment, self._import_segment(segment)
        self._seen = seen

    def _import_segment(self, segment: Segment) -> Tensor:
        try:
            return self.session._import_exported(segment.descriptor, segment.address, segment.nbytes)
        except ArgumentError as error:
            raise _unsupported(
                f"{segment.nbytes} bytes of the program's memory cannot be given to {self.session.device}: "
                f"{error.message}. {_SAME_GPUS}"
            ) from error

    def place(self, address: int, position: int) -> tuple[str, int]:
        """Handle and offset of memory of the program."""
        segment = self._segments.holding(address)
        with self._lock:
            if segment is not None:
                known = self._imported.get(segment.address)
                if known is None or known[0] is not segment:  # made since the launch began
                    self._import_segments()
                    known = self._imported[segment.address]
                return known[1].handle, address - segment.address
            return self._place_foreign(address, position)

    def _place_foreign(self, address: int, position: int) -> tuple[str, int]:
        block = self._native.block(address)
        if block is None:
            raise argument_error(
                f"Pointer argument (at {position}) cannot be accessed from Triton (cpu tensor?)", position
            )
        kind, base, nbytes, number, device = block
        if kind == "host":
            raise argument_error(
                f"argument {position} is pinned memory of the host, which the daemon's executor cannot reach: "
                f"{_INSTEAD}",
                position,
            )
        if kind == "managed":
            raise argument_error(
                f"argument {position} is managed memory, which moves under the driver and cannot be given to the "
                f"daemon's executor: {_INSTEAD}",
                position,
            )
        if device != DEVICE:
            raise argument_error(
                f"argument {position} is memory of cuda:{device}; launches of the placement 'daemon' are on "
                f"cuda:{DEVICE}: name one GPU in CUDA_VISIBLE_DEVICES, or use placement='in-process'",
                position,
            )
        known = self._foreign.get(base)
        if known is None or known[0] != number:
            self._sweep()
            known = number, self._import_foreign(base, nbytes, position)
            self._foreign[base] = known
        return known[1].handle, address - base

    def _import_foreign(self, base: int, nbytes: int, position: int) -> Tensor:
        what = f"argument {position} lies in an allocation of {nbytes} bytes that the daemon's executor cannot have"
        try:
            handle = self._native.ipc_handle(base)
        except RuntimeError as error:
            raise _unsupported(
                f"{what}: the driver gives no handle of it ({error}). Memory of expandable segments and of "
                "cudaMallocAsync has none: unset PYTORCH_CUDA_ALLOC_CONF, install() before the first tensor is made, "
                "or use placement='in-process'"
            ) from error
        try:
            return self.session._import_ipc(handle, nbytes)
        except ArgumentError as error:
            raise _unsupported(f"{what}: {error.message}. {_SAME_GPUS}") from error

    def _sweep(self) -> None:
        """Gives up imports of allocations that the program has freed: the executor still holds their memory."""
        for base, (number, tensor) in list(self._foreign.items()):
            block = self._native.block(base)
            if block is None or block[3] != number:
                del self._foreign[base]
                tensor.free()


def _unsupported(message: str) -> TrunError:
    return make_error(message, reason="UNSUPPORTED_TARGET", code="FAILED_PRECONDITION")


class GpuArguments:
    """The arguments of one launch: the kernel has the program's own memory, and nothing is copied."""

    shares_memory = True

    def __init__(self, memory: GpuMemory) -> None:
        self._memory = memory

    def add(self, value: Any, position: int) -> None:
        address = value.data_ptr()
        if address == 0:
            check_null(value, position)
        else:
            self._memory.place(address, position)

    def copy_in(self) -> None:
        pass

    def locate(self, address: int, position: int) -> tuple[str, int] | None:
        return self._memory.place(address, position) if address else None

    def copy_back(self) -> None:
        pass

    def release(self) -> None:
        pass
