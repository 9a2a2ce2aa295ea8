"""bfloat16 on the tensor cores, with tensors that stay on the device between launches."""

from __future__ import annotations

import pathlib

import ml_dtypes
import numpy as np
import trun

KERNELS = pathlib.Path(__file__).resolve().parents[1] / "kernels"
BLOCK = 64


def main(m: int = 96, n: int = 128, k: int = 64) -> None:
    rng = np.random.default_rng(1)
    a = rng.standard_normal((m, k), dtype=np.float32).astype(ml_dtypes.bfloat16)
    b = rng.standard_normal((k, n), dtype=np.float32).astype(ml_dtypes.bfloat16)

    with trun.connect() as session:
        matmul = session.load(KERNELS / "matmul_bf16.ttir")
        device_a, device_b = session.tensor(a), session.tensor(b)
        device_c = session.empty((m, n), "bf16")
        launcher = matmul[trun.cdiv(m, BLOCK), trun.cdiv(n, BLOCK)]
        # Strides are in elements, from one row to the next.
        launcher(device_a, device_b, device_c, m, n, k, k, n, n)
        c = device_c.numpy()
        times = launcher.benchmark(device_a, device_b, device_c, m, n, k, k, n, n, repetitions=3)
        print(f"{m} × {n} × {k} on {session.device_name}: {times}")

    expected = a.astype(np.float32) @ b.astype(np.float32)
    error = np.abs(c.astype(np.float32) - expected)
    print(f"largest error {error.max():.4f}")
    np.testing.assert_allclose(c.astype(np.float32), expected, rtol=2**-7, atol=2**-6)
    print("right")


if __name__ == "__main__":
    main()
