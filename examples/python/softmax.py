"""Row softmax, then the same launch with a wrong shape: what a fault looks like, and that the session goes on."""

from __future__ import annotations

import pathlib

import numpy as np
import trun

KERNELS = pathlib.Path(__file__).resolve().parents[1] / "kernels"


def main(rows: int = 37, columns: int = 1000) -> None:
    x = np.random.default_rng(1).standard_normal((rows, columns), dtype=np.float32)

    with trun.connect() as session:
        softmax = session.load(KERNELS / "softmax.ttir")
        device_x, device_y = session.tensor(x), session.empty(x.shape, x.dtype)
        softmax[rows](device_y, device_x, columns, columns, columns)

        try:
            softmax[rows + 1](device_y, device_x, columns, columns, columns)
        except trun.IllegalAddressError as error:
            print(f"a row too many, as it should be refused:\n{error}\n")
        y = device_y.numpy()  # tensors outlive the launch that faulted

    exponents = np.exp(x.astype(np.float64) - x.max(axis=1, keepdims=True))
    np.testing.assert_allclose(y, exponents / exponents.sum(axis=1, keepdims=True), rtol=1e-5, atol=1e-7)
    print("right")


if __name__ == "__main__":
    main()
