"""One kernel from every level: the file of each level that a compile makes is a kernel again, with the same numbers."""

from __future__ import annotations

import pathlib

import numpy as np
import trun

KERNELS = pathlib.Path(__file__).resolve().parents[1] / "kernels"


def main(rows: int = 5, columns: int = 700) -> None:
    x = np.random.default_rng(1).standard_normal((rows, columns), dtype=np.float32)
    results = {}

    with trun.connect() as session:
        first = session.load(KERNELS / "softmax.ttir")
        for level in ("ttir", "ttgir", "llir", "ptx"):
            # From PTX on a file no longer says all that a launch needs: its metadata goes with it.
            kernel = session.load(first.asm[level], level=level, metadata=first.metadata)
            y = np.empty_like(x)
            kernel[rows](y, x, columns, columns, columns)
            results[level] = y
            found = "in the cache" if kernel.cached else f"compiled in {kernel.compile_seconds * 1e3:.0f} ms"
            print(f"from {level:5}  {len(first.asm[level]):6} bytes, {found}")

    exponents = np.exp(x.astype(np.float64) - x.max(axis=1, keepdims=True))
    np.testing.assert_allclose(results["ttir"], exponents / exponents.sum(axis=1, keepdims=True), rtol=1e-5, atol=1e-7)
    for level, y in results.items():
        np.testing.assert_array_equal(y, results["ttir"], err_msg=f"from {level}")
    print("right")


if __name__ == "__main__":
    main()
