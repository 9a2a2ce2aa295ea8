"""Layouts in Gluon: the same copy of a matrix with rows or with columns in the fast dimension, and a conversion."""

from __future__ import annotations

import numpy as np
import trun
from trun import gluon
from trun.gluon import language as gl


@gluon.jit
def copy(x_ptr, y_ptr, ROWS: gl.constexpr, COLUMNS: gl.constexpr, LAYOUT: gl.constexpr, OTHER: gl.constexpr):
    row = gl.arange(0, ROWS, layout=gl.SliceLayout(1, LAYOUT))
    column = gl.arange(0, COLUMNS, layout=gl.SliceLayout(0, LAYOUT))
    tile = gl.load(x_ptr + row[:, None] * COLUMNS + column[None, :])
    tile = gl.convert_layout(tile, OTHER)
    row = gl.arange(0, ROWS, layout=gl.SliceLayout(1, OTHER))
    column = gl.arange(0, COLUMNS, layout=gl.SliceLayout(0, OTHER))
    gl.store(y_ptr + column[None, :] * ROWS + row[:, None], tile)


BY_ROWS = gl.BlockedLayout([1, 4], [4, 8], [4, 1], [1, 0])
BY_COLUMNS = gl.BlockedLayout([4, 1], [8, 4], [1, 4], [0, 1])


def main(rows: int = 64, columns: int = 32) -> None:
    x = np.random.default_rng(1).standard_normal((rows, columns)).astype(np.float32)
    counts = {}
    with trun.connect() as session:
        for name, layouts in {
            "rows to columns": (BY_ROWS, BY_COLUMNS),
            "columns to columns": (BY_COLUMNS, BY_COLUMNS),
            "rows to rows": (BY_ROWS, BY_ROWS),
        }.items():
            y = np.zeros((columns, rows), np.float32)
            kernel = copy[(1,)](x, y, rows, columns, *layouts, session=session)
            np.testing.assert_array_equal(y, x.T, err_msg=name)
            counts[name] = str(kernel.asm["ptx"]).count("bar.sync")
            print(f"{name}: {counts[name]} barriers, {kernel.shared_bytes} bytes of shared memory")
    assert counts["rows to columns"] > 0 == counts["rows to rows"], "only a conversion goes through shared memory"
    print("right")


if __name__ == "__main__":
    main()
