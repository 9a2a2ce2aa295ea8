"""Convolutions of one to three dimensions as im2col: what im2col_kernels.py is run on, and NumPy's answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import im2col_kernels
import numpy as np
import trun
from trun.gluon import language as gl


@dataclass(frozen=True)
class Case:
    """A filter over images of shape (N, …, C), each spatial dimension alike."""

    dtype: str
    shape: tuple[int, ...]
    taps: int
    padding: int
    step: int
    rate: int  # of dilation
    pixels: int  # a column
    channels: int  # a pixel
    swizzle: int  # bytes
    channel: int = 0  # the first
    nan: bool = False
    tf32: bool = False

    @property
    def spatial(self) -> int:
        return len(self.shape) - 2

    @property
    def corners(self) -> tuple[int, int]:
        """The box holds the places of the filter's first tap."""
        return -self.padding, self.padding - (self.taps - 1) * self.rate

    @property
    def box(self) -> tuple[int, ...]:
        """Places along each spatial dimension."""
        lower, upper = self.corners
        return tuple((extent + upper - lower + self.step - 1) // self.step for extent in self.shape[1:-1])

    def values(self) -> Any:
        random = np.random.default_rng(len(self.shape) + self.taps)
        return random.standard_normal(self.shape).astype(self.dtype)

    def expected(self, x: Any) -> Any:
        """out[tap, pixel, channel], pixels of all images in order; the last column may read images past the end."""
        fill = np.nan if self.nan else 0
        lower, _ = self.corners
        total = self.shape[0] * int(np.prod(self.box))
        rows = self.columns * self.pixels
        out = np.full((self.taps**self.spatial, rows, self.channels), fill, x.dtype)
        for tap in np.ndindex(*(self.taps,) * self.spatial):
            number = int(np.ravel_multi_index(tap, (self.taps,) * self.spatial))
            for row in range(total):
                image, *place = np.unravel_index(row, (self.shape[0], *self.box))
                at = [lower + int(p) * self.step + t * self.rate for p, t in zip(place, tap, strict=True)]
                if all(0 <= a < extent for a, extent in zip(at, self.shape[1:-1], strict=True)):
                    found = x[tuple(map(int, (image, *at)))][self.channel : self.channel + self.channels]
                    out[number, row, : len(found)] = found
        return round_to_tf32(out) if self.tf32 else out

    @property
    def columns(self) -> int:
        total = self.shape[0] * int(np.prod(self.box))
        return -(-total // self.pixels)

    def run(self, session: trun.Session, toolchain: str | None = None) -> tuple[trun.Kernel, Any, Any]:
        """The kernel, its input and its output."""
        x = self.values()
        rows = self.columns * self.pixels
        out = session.zeros((self.taps**self.spatial, rows, self.channels), dtype=self.dtype)
        lower, upper = self.corners
        descriptor = trun.TensorDescriptor(
            session.tensor(x),
            block_shape=(self.pixels, self.channels),
            padding_nan=self.nan,
            layout=gl.NVMMASharedLayout(swizzle_byte_width=self.swizzle, element_bitwidth=8 * x.dtype.itemsize, rank=2),
            im2col=trun.Im2col((lower,) * self.spatial, (upper,) * self.spatial, (1, *(self.step,) * self.spatial, 1)),
            round_f32_to_tf32=self.tf32,
        )
        kernel = getattr(im2col_kernels, f"unfold_{self.spatial}d")
        many = (lambda n: (n,) * self.spatial) if self.spatial > 1 else (lambda n: n)
        constants: dict[str, Any] = {"PIXELS": self.pixels, "CHANNELS": self.channels}
        if self.spatial == 3:
            constants["TAPS"] = self.taps
        box = self.box if self.spatial > 1 else self.box[0]
        compiled = kernel[(self.columns, self.taps, self.taps ** (self.spatial - 1))](
            descriptor,
            out,
            many(lower),
            box,
            many(self.step),
            self.rate,
            self.channel,
            rows,
            **constants,
            toolchain=toolchain,
            session=session,
        )
        return compiled, x, out.numpy()


def round_to_tf32(x: Any) -> Any:
    """To nearest, ties away from zero, as TMA does."""
    bits = x.view(np.uint32)
    rounded = (bits + 0x1000) & np.uint32(0xFFFFE000)
    return np.where(np.isnan(x), x, rounded.view(np.float32))


CASES = {
    "rows of 3 taps": Case("float16", (3, 21, 64), 3, 1, 1, 1, 16, 64, 128),
    "3 x 3 with a padding of 1": Case("float16", (2, 14, 9, 64), 3, 1, 1, 1, 64, 64, 128),
    "no padding, channels from 32 on": Case("float16", (2, 6, 7, 64), 3, 0, 1, 1, 32, 32, 64, channel=32),
    "every second place": Case("float32", (2, 14, 8, 16), 3, 1, 2, 1, 32, 16, 64),
    "dilated, NaN out of bounds": Case("float32", (1, 11, 10, 32), 3, 2, 1, 2, 16, 32, 128, nan=True),
    "past the last channel": Case("float16", (1, 5, 5, 24), 2, 0, 1, 1, 16, 32, 64),
    "rounded to tf32": Case("float32", (1, 6, 6, 16), 2, 1, 1, 1, 16, 16, 64, tf32=True),
    "bytes": Case("uint8", (2, 6, 5, 64), 2, 1, 1, 1, 32, 64, 64),
    "three dimensions": Case("float16", (2, 4, 5, 6, 16), 3, 1, 1, 1, 32, 16, 32),
    "three dimensions, every second place": Case("float16", (2, 5, 6, 7, 32), 2, 1, 2, 1, 16, 32, 64),
}
