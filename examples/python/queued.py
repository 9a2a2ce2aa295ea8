"""Launches that nobody waits for: a chain of hundreds is queued on tensors that stay on the device, awaited once."""

from __future__ import annotations

import pathlib
import time

import numpy as np
import trun

KERNELS = pathlib.Path(__file__).resolve().parents[1] / "kernels"


def main(n: int = 2048, steps: int = 200) -> None:
    with trun.connect() as session:
        add = session.load(KERNELS / "vector_add.ttir")
        one, total = session.tensor(np.ones(n, np.float32)), session.zeros(n, np.float32)
        step = add[trun.cdiv(n, 1024)]

        started = time.perf_counter()
        for _ in range(steps):
            step(total, one, total, n, wait=False)  # total = total + one
        queued = time.perf_counter()
        session.synchronize()  # raises the first fault, with its launch's number, if there was one
        done = time.perf_counter()
        print(
            f"{steps} launches: {(queued - started) / steps * 1e6:.0f} µs each to queue, {done - started:.3f} s in all"
        )
        result = total.numpy()

    np.testing.assert_array_equal(result, np.full(n, steps, np.float32))
    print("right")


if __name__ == "__main__":
    main()
