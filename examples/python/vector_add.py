"""The smallest whole program: two arrays in, their sum out. Runs on the emulator where there is no GPU."""

from __future__ import annotations

import pathlib

import numpy as np
import trun

KERNELS = pathlib.Path(__file__).resolve().parents[1] / "kernels"


def main() -> None:
    rng = np.random.default_rng(1)
    x, y = rng.standard_normal((2, 3000), dtype=np.float32)
    out = np.empty_like(x)

    with trun.connect() as session:
        add = session.load(KERNELS / "vector_add.ttir")
        result = add[(trun.cdiv(x.size, 1024),)](x, y, out, x.size)
        where = "found in the cache" if add.cached else f"compiled by Triton {add.toolchain}"
        print(f"{add.signature}\n{where} in {add.compile_seconds * 1e3:.0f} ms, for {session.device_name}")
        print(f"{result.device_seconds * 1e6:.0f} µs on the device")

    np.testing.assert_array_equal(out, x + y)
    print("right")


if __name__ == "__main__":
    main()
