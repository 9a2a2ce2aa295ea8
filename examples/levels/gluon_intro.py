"""A Gluon kernel: programs, a layout written by hand, and a mask."""

from __future__ import annotations

import numpy as np
import trun
from trun import gluon
from trun.gluon import language as gl


@gluon.jit
def scale(x_ptr, y_ptr, n, factor, BLOCK: gl.constexpr):
    layout: gl.constexpr = gl.BlockedLayout([4], [32], [4], [0])
    offsets = gl.program_id(0) * BLOCK + gl.arange(0, BLOCK, layout=layout)
    mask = offsets < n
    gl.store(y_ptr + offsets, gl.load(x_ptr + offsets, mask=mask) * factor, mask=mask)


def main(n: int = 3001) -> None:
    x = np.random.default_rng(1).standard_normal(n).astype(np.float32)
    y = np.zeros_like(x)
    with trun.connect() as session:
        kernel = scale[lambda meta: (trun.cdiv(n, meta["BLOCK"]),)](x, y, n, 2.5, BLOCK=512, session=session)
        assert "ttir" not in kernel.asm, "Gluon begins at TTGIR"
        print(f"Triton {kernel.toolchain}: {', '.join(kernel.asm)}")
    np.testing.assert_array_equal(y, x * np.float32(2.5))
    print("right")


if __name__ == "__main__":
    main()
