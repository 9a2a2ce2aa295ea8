"""Device memory of a session, and references into it."""

from __future__ import annotations

import mmap
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from trun._html import table
from trun.errors import HandleError, TrunError, argument_error
from trun.v1 import tensor_pb2

if TYPE_CHECKING:
    from trun.session import Session

# Below this a stream costs less than the exchange of a descriptor.
MAP_BYTES = 256 << 10


class Memory:
    """A tensor's piece of a sealed memfd, shared with the daemon. Closes its descriptor when it is dropped."""

    def __init__(self, descriptor: int, offset: int, nbytes: int) -> None:
        self._descriptor = descriptor
        self._offset = offset
        self._nbytes = nbytes
        self._map: mmap.mmap | None = None

    def __del__(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)

    def write(self, data: memoryview, offset: int) -> None:
        # pwrite: the kernel fills pages that nobody touched without clearing them first.
        while data:
            written = os.pwrite(self._descriptor, data[: 1 << 30], self._offset + offset)
            data = data[written:]
            offset += written

    def read(self, out: memoryview, offset: int) -> None:
        while out:
            count = os.preadv(self._descriptor, [out[: 1 << 30]], self._offset + offset)
            if count == 0:
                raise TrunError("a tensor's memory ended early", reason="INTERNAL", code="INTERNAL")
            out = out[count:]
            offset += count

    def array(self, dtype: np.dtype[Any], shape: tuple[int, ...]) -> npt.NDArray[Any]:
        start = self._offset // mmap.ALLOCATIONGRANULARITY * mmap.ALLOCATIONGRANULARITY
        if self._map is None:
            self._map = mmap.mmap(self._descriptor, self._offset + self._nbytes - start, offset=start)
        count = self._nbytes // dtype.itemsize
        return np.frombuffer(self._map, dtype=dtype, count=count, offset=self._offset - start).reshape(shape)


def raw_memory(array: npt.NDArray[Any]) -> memoryview:
    """The bytes of a contiguous array (in either order) as they lie in memory."""
    flat = array if array.flags.c_contiguous else array.T
    return memoryview(flat.reshape(-1).view(np.uint8))  # type: ignore[arg-type]


@dataclass(frozen=True)
class TensorAt:
    """A tensor from a byte offset on: pointer arithmetic, ``tensor.at(3)``."""

    tensor: Tensor
    offset: int


@dataclass(frozen=True)
class Im2col:
    """What a tensor descriptor of im2col mode has beside its block (pixels a column, channels a pixel).

    The tensor has 3 to 5 dimensions, channels last. Pixels are taken in order within a box over the spatial dimensions:
    from ``lower_corner`` to ``upper_corner``, which counts from the tensor's end. A convolution of 3 x 3 with padding 1
    has (-1, -1) and (-1, -1). ``element_strides``, the steps from pixel to pixel, are of all dimensions, the last is 1.
    """

    lower_corner: Sequence[int]
    upper_corner: Sequence[int]
    element_strides: Sequence[int] | None = None


@dataclass(frozen=True)
class TensorDescriptor:
    """A host-made tensor descriptor (TMA), by its fields; strides in elements, row-major where not given."""

    base: Tensor
    block_shape: Sequence[int]
    shape: Sequence[int] | None = None
    strides: Sequence[int] | None = None
    padding_nan: bool = False
    layout: Any = None  # of a Gluon kernel's descriptor
    im2col: Im2col | None = None  # None: tiled mode
    round_f32_to_tf32: bool = False

    def extents(self) -> tuple[list[int], list[int]]:
        """Shape and strides, with what was not given filled in."""
        shape = [int(n) for n in (self.shape if self.shape is not None else self.base.shape)]
        if self.strides is not None:
            return shape, [int(n) for n in self.strides]
        strides: list[int] = []
        step = 1
        for extent in reversed(shape):
            strides.insert(0, step)
            step *= extent
        return shape, strides


class Tensor:
    """Memory on the session's device. It is freed with the last reference to it, or by free(). Thread-safe."""

    def __init__(self, session: Session, info: tensor_pb2.TensorInfo, dtype: np.dtype[Any]) -> None:
        self._session = session
        self._handle: str = info.tensor
        self.dtype = dtype
        self.shape: tuple[int, ...] = tuple(info.shape)
        self.nbytes: int = info.bytes
        self.device_address: int = info.device_address
        self._memory: Memory | None = None
        self._unmappable = False
        self._written = True  # by this program, as far as it can tell; False: only launches have

    def __del__(self) -> None:
        # No call from here: this may run at any time on any thread. The session frees it with its next call.
        handle = getattr(self, "_handle", "")
        if handle:
            self._session._abandon_tensor(handle)

    @property
    def handle(self) -> str:
        if not self._handle:
            raise HandleError("this tensor was freed", reason="HANDLE", code="NOT_FOUND")
        return self._handle

    @property
    def size(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def at(self, element: int) -> TensorAt:
        """This tensor from an element (of the flat tensor) on, as an argument of a launch."""
        offset = element * self.dtype.itemsize
        if not 0 <= offset <= self.nbytes:
            raise argument_error(f"element {element} lies outside a tensor of {self.size} elements")
        return TensorAt(self, offset)

    def numpy(self, out: npt.NDArray[Any] | None = None) -> npt.NDArray[Any]:
        """A copy of its values, after the launches queued before; into ``out``, a contiguous array, where given."""
        if out is None:
            out = np.empty(self.shape, self.dtype)
        elif (out.dtype, out.shape, out.flags.carray) != (self.dtype, self.shape, True):
            raise argument_error(
                f"out must be a contiguous, writable array of shape {self.shape} and type {self.dtype}, not of shape "
                f"{out.shape} and type {out.dtype}"
            )
        if out.nbytes:
            self._read(raw_memory(out))
        return out

    def map(self) -> npt.NDArray[Any]:
        """Its memory itself as an array, without a copy: writes are seen by the next launch. Local sessions only.

        The array stays valid, and the memory in use, as long as the array lives, even after free().
        """
        memory = self._shared_memory()
        if memory is None:
            raise TrunError(
                f"the memory of a tensor on {self._session.device} cannot be mapped into this process: use numpy() "
                "and copy_from()",
                code="FAILED_PRECONDITION",
            )
        self._written = True
        self._session._fence(self)
        return memory.array(self.dtype, self.shape)

    def copy_from(self, source: npt.ArrayLike | Tensor) -> Tensor:
        """Overwrites it with an array of the same shape (converted to its dtype) or a tensor of the same size."""
        if isinstance(source, Tensor):
            if source.nbytes != self.nbytes or source._session is not self._session:
                raise argument_error("tensors can be copied within a session, to one with as many bytes")
            self._written = True
            request = tensor_pb2.CopyRequest(
                session=self._session.id,
                source=source.handle,
                destination=self.handle,
                bytes=self.nbytes,
            )
            self._session._call("TensorService.Copy", request, timeout=None)
            return self
        array = np.ascontiguousarray(np.asarray(source, dtype=self.dtype))
        if array.size != self.size or (array.ndim and array.shape != self.shape):
            raise argument_error(f"an array of shape {array.shape} does not fit a tensor of shape {self.shape}")
        if array.nbytes:
            self._write(raw_memory(array))
        return self

    def fill(self, value: Any) -> Tensor:
        """Sets every element to ``value``."""
        self._written = True
        pattern = np.asarray(value).astype(self.dtype).tobytes()
        request = tensor_pb2.FillRequest(session=self._session.id, tensor=self.handle, pattern=pattern)
        self._session._call("TensorService.Fill", request, timeout=None)
        return self

    def free(self) -> None:
        """Returns the memory now. Freeing twice is fine; every other use of a freed tensor is a HandleError."""
        handle, self._handle = self._handle, ""
        self._memory = None
        if handle and not self._session.closed:
            request = tensor_pb2.FreeRequest(session=self._session.id, tensors=[handle])
            self._session._call("TensorService.Free", request)

    def __enter__(self) -> Tensor:
        return self

    def __exit__(self, *_: object) -> None:
        self.free()

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> npt.NDArray[Any]:
        if copy is False:
            raise ValueError("a trun.Tensor becomes an array by a copy; map() gives its memory itself")
        array = self.numpy()
        return array if dtype is None else array.astype(dtype)

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("a scalar tensor has no length")
        return self.shape[0]

    def __repr__(self) -> str:
        state = self._handle or "freed"
        return f"trun.Tensor({state}, shape={self.shape}, dtype={self.dtype}, device={self._session.device!r})"

    def _repr_html_(self) -> str:
        rows = [
            ("shape", self.shape),
            ("dtype", self.dtype),
            ("bytes", f"{self.nbytes:,}"),
        ]
        rows += [
            ("device", self._session.device),
            ("address", f"{self.device_address:#x}"),
        ]
        return table(f"trun.Tensor {self._handle or '(freed)'}", rows)

    def _shared_memory(self) -> Memory | None:
        if self._memory is None and not self._unmappable:
            self._session._share_memory([self])
        return self._memory

    def _write(self, data: memoryview) -> None:
        self._written = True
        if self._memory is not None or len(data) >= MAP_BYTES:
            memory = self._shared_memory()
            if memory is not None:
                self._session._fence(self)
                memory.write(data, 0)
                return
        if self._session._transfers.write(self._session, self.handle, data):
            return
        self._session._stream_write(self.handle, data)

    def _read(self, out: memoryview) -> None:
        if self._memory is not None or len(out) >= MAP_BYTES:
            memory = self._shared_memory()
            if memory is not None:
                self._session._fence(self)
                memory.read(out, 0)
                return
        if self._session._transfers.read(self._session, self.handle, out):
            return
        self._session._stream_read(self.handle, out)
