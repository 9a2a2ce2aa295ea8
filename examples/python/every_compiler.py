"""One kernel by every Triton that the daemon knows, side by side: what each makes of it, and that the numbers agree."""

from __future__ import annotations

import pathlib

import ml_dtypes
import numpy as np
import trun

KERNELS = pathlib.Path(__file__).resolve().parents[1] / "kernels"


def main(m: int = 64, n: int = 96, k: int = 80) -> None:
    rng = np.random.default_rng(1)
    a, b = (rng.standard_normal(shape).astype(ml_dtypes.bfloat16) for shape in ((m, k), (k, n)))
    expected = a.astype(np.float32) @ b.astype(np.float32)

    with trun.connect() as session:
        compilers = [toolchain for toolchain in session.toolchains() if not toolchain.unusable_reason]
        for compiler in compilers:
            try:
                matmul = session.load(KERNELS / "matmul_bf16.ttir", toolchain=compiler.name)
            except trun.InvalidIrError as error:  # a file may need a newer one
                print(f"Triton {compiler.version}: {error.message.splitlines()[0]}")
                continue
            c = np.zeros((m, n), ml_dtypes.bfloat16)
            matmul[trun.cdiv(m, 64), trun.cdiv(n, 64)](a, b, c, m, n, k, k, n, n)
            lines = str(matmul.asm["ptx"]).count("\n")
            print(f"Triton {compiler.version}: {lines} lines of PTX, {matmul.shared_bytes} bytes of shared memory")
            np.testing.assert_allclose(c.astype(np.float32), expected, rtol=2**-7, atol=2**-6)
    assert compilers, "no Triton is known: trun-client toolchains install 3.9.0, or adopt PATH"
    print("right")


if __name__ == "__main__":
    main()
