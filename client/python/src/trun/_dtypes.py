"""Element types: NumPy's (with ml_dtypes for what NumPy lacks) and the API's."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np

from trun.errors import argument_error
from trun.v1 import kernel_pb2

_TABLE: tuple[tuple[str, Any], ...] = (
    ("i1", np.bool_),
    ("i8", np.int8),
    ("i16", np.int16),
    ("i32", np.int32),
    ("i64", np.int64),
    ("u8", np.uint8),
    ("u16", np.uint16),
    ("u32", np.uint32),
    ("u64", np.uint64),
    ("f16", np.float16),
    ("bf16", ml_dtypes.bfloat16),
    ("f32", np.float32),
    ("f64", np.float64),
    ("f8e4m3", ml_dtypes.float8_e4m3fn),
    ("f8e5m2", ml_dtypes.float8_e5m2),
    ("f8e4m3b15", ml_dtypes.float8_e4m3b11fnuz),
    ("f8e4m3fnuz", ml_dtypes.float8_e4m3fnuz),
    ("f8e5m2fnuz", ml_dtypes.float8_e5m2fnuz),
)

_NUMBER_OF: dict[np.dtype[Any], int] = {
    np.dtype(scalar): kernel_pb2.Dtype.Value(f"DTYPE_{name.upper()}") for name, scalar in _TABLE
}
_DTYPE_OF: dict[int, np.dtype[Any]] = {number: dtype for dtype, number in _NUMBER_OF.items()}
_NAMED: dict[str, np.dtype[Any]] = {name: np.dtype(scalar) for name, scalar in _TABLE}
_NAMED |= {
    "fp16": np.dtype(np.float16),
    "fp32": np.dtype(np.float32),
    "fp64": np.dtype(np.float64),
}
_NAMED |= {
    "fp8e4nv": _NAMED["f8e4m3"],
    "fp8e5": _NAMED["f8e5m2"],
    "bfloat16": _NAMED["bf16"],
}


def to_dtype(given: object) -> np.dtype[Any]:
    """A NumPy dtype for "f16", "bf16", np.float16, ml_dtypes.bfloat16, ..."""
    if isinstance(given, str) and given in _NAMED:
        return _NAMED[given]
    try:
        dtype = np.dtype(given)  # type: ignore[call-overload]
    except TypeError as error:
        raise argument_error(f"{given!r} is not an element type; they are {', '.join(n for n, _ in _TABLE)}") from error
    wire_dtype(dtype)
    return dtype  # type: ignore[no-any-return]


def wire_dtype(dtype: np.dtype[Any]) -> int:
    number = _NUMBER_OF.get(dtype)
    if number is None:
        raise argument_error(
            f"tensors of {dtype} cannot be passed; the element types are {', '.join(name for name, _ in _TABLE)}"
            + (" in this machine's byte order" if not dtype.isnative else "")
        )
    return number


def numpy_dtype(number: int) -> np.dtype[Any] | None:
    return _DTYPE_OF.get(number)


def dtype_name(number: int) -> str:
    """ "f16" for DTYPE_F16; "?" where the file does not tell."""
    name = kernel_pb2.Dtype.Name(number) if number in kernel_pb2.Dtype.values() else ""
    short = name.removeprefix("DTYPE_").lower()
    return "?" if short in ("", "unspecified") else short


def is_float(number: int) -> bool:
    return dtype_name(number)[0] in "fb"
