"""Memory of the session for tensors that live in this process.

A block is device memory of a session whose pages are mapped here too, at the device's own address where that range is
free: such an address means the same to the program and to its kernels, also when it is stored in memory.
"""

from __future__ import annotations

import bisect
import ctypes
import dataclasses
import os
import threading
from collections.abc import Iterable
from typing import Any

import numpy as np

from trun._descriptors import is_sealed, receive_descriptors
from trun.errors import ProtocolError, TrunError, argument_error
from trun.session import Session
from trun.tensor import Tensor
from trun.v1 import session_pb2

_IDLE_BYTES = 256 << 20
_IDLE_BLOCKS = 1024
_MAP_FIXED_NOREPLACE = 0x100000

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [
    ctypes.c_void_p,
    ctypes.c_size_t,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_long,
]
_libc.pread.restype = ctypes.c_ssize_t
_libc.pread.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_long]
_libc.memcmp.restype = ctypes.c_int
_libc.memcmp.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t]
_MAP_FAILED = ctypes.c_void_p(-1).value


@dataclasses.dataclass(frozen=True)
class Range:
    """Bytes of this process's memory, [start, end)."""

    start: int
    end: int

    @property
    def nbytes(self) -> int:
        return self.end - self.start


@dataclasses.dataclass(frozen=True)
class Block:
    """A tensor of bytes of the session, and where this process sees it."""

    tensor: Tensor
    host: int

    @property
    def nbytes(self) -> int:
        return self.tensor.nbytes

    @property
    def same_address(self) -> bool:
        return self.host == self.tensor.device_address


def extent_of(value: Any, position: int) -> Range:
    """The memory that a pointer argument may reach: the whole storage of a torch tensor, else the array's own bytes."""
    storage = getattr(value, "untyped_storage", None)
    if storage is not None:
        whole = storage()
        start = whole.data_ptr()
        return Range(start, start + whole.nbytes())
    if hasattr(value, "__array_interface__"):
        array = np.asarray(value)
        if array.size == 0:
            return Range(0, 0)
        start = array.__array_interface__["data"][0]
        low = start + sum(min(0, (n - 1) * s) for n, s in zip(array.shape, array.strides, strict=True))
        high = start + sum(max(0, (n - 1) * s) for n, s in zip(array.shape, array.strides, strict=True))
        return Range(low, high + array.itemsize)
    base = getattr(value, "base", None)  # Triton's reinterpret()
    if base is not None and hasattr(base, "data_ptr"):
        return extent_of(base, position)
    if hasattr(value, "data_ptr") and hasattr(value, "nbytes"):
        start = value.data_ptr()
        return Range(start, start + value.nbytes)
    raise argument_error(
        f"argument {position} is a pointer; a {type(value).__name__} tells neither its storage (untyped_storage) nor "
        "its size (nbytes), so that its memory cannot be given to the kernel",
        position,
    )


def check_null(value: Any, position: int) -> None:
    """A tensor of elements without memory would be a null pointer to the kernel."""
    count = getattr(value, "numel", None)
    if callable(count) and count() > 0:
        raise argument_error(f"argument {position} is a tensor without memory: of the meta device, or freed", position)


def merged(ranges: Iterable[Range]) -> list[Range]:
    """Ranges in order, those that overlap made one."""
    out: list[Range] = []
    for item in sorted((r for r in ranges if r.nbytes), key=lambda r: r.start):
        if out and item.start < out[-1].end:
            out[-1] = Range(out[-1].start, max(out[-1].end, item.end))
        else:
            out.append(item)
    return out


class HostMemory:
    """Blocks of one session. Thread-safe.

    ``former`` is that of a session that ended under the program: its lent blocks are still memory of this process,
    which a kernel gets as a copy, like any other.
    """

    def __init__(self, session: Session, former: HostMemory | None = None) -> None:
        self.session = session
        self._former = former
        self._lock = threading.RLock()
        self._idle: dict[int, list[Block]] = {}
        self._idle_bytes = 0
        self._idle_blocks = 0
        self._arenas: list[tuple[int, int, int]] = []  # device address, bytes, where it is mapped
        self._lent: dict[int, Block] = {}  # by host address: blocks that are tensors of the program
        self._lent_at: list[int] = []

    def take(self, nbytes: int) -> Block:
        """A block of exactly that size, so that an access past it is seen. REQUIRES: nbytes > 0."""
        with self._lock:
            kept = self._idle.get(nbytes)
            if kept:
                self._idle_bytes -= nbytes
                self._idle_blocks -= 1
                return kept.pop()
        try:
            tensor = self.session._allocate_bytes(nbytes)
        except TrunError as error:
            if error.reason not in ("OUT_OF_MEMORY", "QUOTA"):
                raise
            with self._lock:
                self._idle.clear()
                self._idle_bytes = self._idle_blocks = 0
            tensor = self.session._allocate_bytes(nbytes)
        return Block(tensor, self._host_address(tensor))

    def give_back(self, block: Block) -> None:
        with self._lock:
            if self._idle_bytes + block.nbytes > _IDLE_BYTES or self._idle_blocks >= _IDLE_BLOCKS:
                return  # freed with its last reference
            self._idle.setdefault(block.nbytes, []).append(block)
            self._idle_bytes += block.nbytes
            self._idle_blocks += 1

    def lend(self, nbytes: int) -> Block:
        """A block that is memory of a tensor of the program until end_loan()."""
        block = self.take(nbytes)
        with self._lock:
            self._lent[block.host] = block
            bisect.insort(self._lent_at, block.host)
        return block

    def end_loan(self, block: Block) -> None:
        with self._lock:
            if self._lent.pop(block.host, None) is None:
                return
            del self._lent_at[bisect.bisect_left(self._lent_at, block.host)]
        self.give_back(block)

    def lent_block(self, address: int) -> Block | None:
        """The lent block that holds the address."""
        with self._lock:
            at = bisect.bisect_right(self._lent_at, address) - 1
            if at < 0:
                return None
            block = self._lent[self._lent_at[at]]
        return block if address <= block.host + block.nbytes else None

    def stage(self) -> Staging:
        """For the arguments of one launch."""
        return Staging(self)

    def is_lent(self, address: int) -> bool:
        """Whether it is memory of a tensor of the program, of this session or a former one."""
        if self.lent_block(address) is not None:
            return True
        return self._former is not None and self._former.is_lent(address)

    def _host_address(self, tensor: Tensor) -> int:
        address = tensor.device_address
        with self._lock:
            for start, size, host in self._arenas:
                if start <= address < start + size:
                    return host + address - start
            return self._map_arena_of(tensor)

    def _map_arena_of(self, tensor: Tensor) -> int:
        session = self.session
        if not session._descriptor_socket:
            raise TrunError(
                f"the memory of {session.device} cannot be mapped into this process: the tensors of an unchanged "
                "program need a daemon on this machine",
                code="FAILED_PRECONDITION",
            )
        request = session_pb2.ExportDescriptorsRequest(session=session.id, tensors=[tensor.handle])
        response = session._call("SessionService.ExportDescriptors", request)
        descriptors = receive_descriptors(session._descriptor_socket, response.token)
        try:
            exported = response.tensors[0]
            if exported.descriptor_index >= len(descriptors) or not is_sealed(descriptors[exported.descriptor_index]):
                raise ProtocolError("the daemon exported no sealed memory", reason="PROTOCOL", code="INTERNAL")
            descriptor = descriptors[exported.descriptor_index]
            size = os.fstat(descriptor).st_size
            if exported.offset + tensor.nbytes > size:
                raise ProtocolError(
                    f"tensor {tensor.handle} reaches past the end of its descriptor",
                    reason="PROTOCOL",
                    code="INTERNAL",
                )
            start = tensor.device_address - exported.offset
            host = _map(descriptor, size, start)
        finally:
            for received in descriptors:
                os.close(received)
        self._arenas.append((start, size, host))
        return int(host + exported.offset)


def _map(descriptor: int, size: int, wanted: int) -> int:
    """Maps it at the wanted address, or wherever there is room when that is taken."""
    protection, shared = 1 | 2, 1  # PROT_READ | PROT_WRITE, MAP_SHARED
    host = _libc.mmap(wanted, size, protection, shared | _MAP_FIXED_NOREPLACE, descriptor, 0)
    if host == _MAP_FAILED:
        host = _libc.mmap(None, size, protection, shared, descriptor, 0)
    if host == _MAP_FAILED:
        number = ctypes.get_errno()
        raise OSError(number, f"cannot map {size} bytes of device memory: {os.strerror(number)}")
    return int(host)


def _is_writable(address: int) -> bool:
    """Whether this process may write there, found without a signal: the kernel refuses to read a byte into it."""
    descriptor = os.memfd_create("trun-probe", os.MFD_CLOEXEC)
    try:
        os.pwrite(descriptor, ctypes.string_at(address, 1), 0)
        return bool(_libc.pread(descriptor, address, 1, 0) == 1)
    finally:
        os.close(descriptor)


class Staging:
    """The memory of one launch's pointer arguments: lent blocks as they are, everything else copied in and back."""

    def __init__(self, memory: HostMemory) -> None:
        self._memory = memory
        self.shares_memory = False  # with the kernel: what it wrote before it failed has been written
        self._ranges: list[Range] = []
        self._staged: list[tuple[Range, Block]] = []

    def add(self, value: Any, position: int) -> None:
        address = value.data_ptr()
        if address == 0:
            check_null(value, position)
        elif self._memory.lent_block(address) is None:
            self._ranges.append(extent_of(value, position))
        else:
            self.shares_memory = True

    def copy_in(self) -> None:
        for item in merged(self._ranges):
            # The block begins where the memory does modulo 16: alignment may be compiled into the kernel.
            lead = item.start % 16
            block = self._memory.take(item.nbytes + lead)
            self._staged.append((item, block))
            ctypes.memmove(block.host + lead, item.start, item.nbytes)

    def locate(self, address: int, position: int) -> tuple[str, int] | None:
        """Handle and offset for an address; None: no memory that was added or lent."""
        # The end of one range may be the start of the next, whose pointer it then is.
        for past_the_end in (False, True):
            for item, block in self._staged:
                if item.start <= address < item.end or (past_the_end and address == item.end):
                    return block.tensor.handle, address - item.start + item.start % 16
        block_of_program = self._memory.lent_block(address)
        if block_of_program is None:
            return None
        return block_of_program.tensor.handle, address - block_of_program.host

    def copy_back(self) -> None:
        """Only what the kernel changed: the program's memory may be read-only."""
        changed = [
            (item, device)
            for item, block in self._staged
            if _libc.memcmp(item.start, device := block.host + item.start % 16, item.nbytes) != 0
        ]
        for item, _ in changed:  # before anything is written
            if not (_is_writable(item.start) and _is_writable(item.end - 1)):
                raise argument_error(
                    f"the kernel wrote to the {item.nbytes} bytes at {item.start:#x}, which are read-only memory of "
                    "the program: give it a copy that can be written"
                )
        for item, device in changed:
            ctypes.memmove(item.start, device, item.nbytes)

    def release(self) -> None:
        for _, block in self._staged:
            self._memory.give_back(block)
        self._staged.clear()
