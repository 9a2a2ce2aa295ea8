"""Triton issue 7096, a small GEMM that 3.3 made slower: the machine code of 3.1 in the place of the newer version's."""

from __future__ import annotations

import numpy as np
import trun
from older_kernel import check, compiled, kernel_of, launch

OLDER, NEWER = "3.1.0", "3.3.1"


def main(size: int = 256) -> None:
    kernel = kernel_of("small_gemm")
    rng = np.random.default_rng(1)
    a, b = (rng.standard_normal((size, size)).astype(np.float16) for _ in range(2))
    expected = a.astype(np.float32) @ b.astype(np.float32)
    with trun.connect() as session:
        target = f"sm_{session.target.split(':')[1]}"
        c = session.zeros((size, size), dtype="float16")
        arguments = [session.tensor(a), session.tensor(b), c, *(size,) * 6]
        grid = (trun.cdiv(size, 64) * trun.cdiv(size, 128),)
        for version in (NEWER, OLDER):
            made = compiled(kernel, session, arguments, version, target, num_warps=4, num_stages=4)
            c.fill(0)
            ran = launch(kernel, made, session, grid, arguments)
            check(f"c by Triton {version}", c.numpy(), expected, float(np.abs(expected).max()) * 2**-10)
            timed = ran[grid].benchmark(*arguments, repetitions=20)
            registers = made.metadata["ptxas_resources"]["registers"]
            cost = f"{timed.median * 1e6:.1f} µs" if timed.median else ""
            if session.device.startswith("emulator"):
                cost = f"{timed.warp_instructions} warp instructions"
            print(f"Triton {version} for {target}: {registers} registers, {cost}")
    print("right")


if __name__ == "__main__":
    main()
