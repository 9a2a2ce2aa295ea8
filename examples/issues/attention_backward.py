"""Triton issue 7268, an attention backward that 3.3 gave more shared memory than an A10G has: 3.2's code still fits."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import trun
from older_kernel import check, compiled, kernel_of, launch

OLDER, NEWER, LIMIT = "3.2.0", "3.3.1", 101376  # bytes that sm_86 and sm_89 give a CTA


def main(length: int = 256, dims: int = 64, scale: float = 0.125) -> None:
    kernel = kernel_of("attention_backward")
    rng = np.random.default_rng(1)
    q, k, v, do = (rng.standard_normal((length, dims)).astype(ml_dtypes.bfloat16) for _ in range(4))
    wide_q, wide_k, wide_v, wide_do = (x.astype(np.float32) for x in (q, k, v, do))
    scores = wide_q @ wide_k.T * scale
    lse = np.log(np.exp(scores).sum(1))
    p = np.exp(scores - lse[:, None])
    dp = wide_do @ wide_v.T
    delta = (p * dp).sum(1)
    ds = p * (dp - delta[:, None]) * scale
    expected = {"dq": ds @ wide_k, "dk": ds.T @ wide_q, "dv": p.T @ wide_do}
    with trun.connect() as session:
        made = {}
        gradients = {"dq": session.zeros((length, dims), dtype="float32")}
        gradients |= {name: session.zeros((length, dims), dtype="bfloat16") for name in ("dk", "dv")}
        inputs = [session.tensor(x) for x in (q, k, v, do, lse, delta)]
        arguments = [*inputs, *gradients.values(), length, scale]
        for version in (NEWER, OLDER):
            try:
                made[version] = compiled(kernel, session, arguments, version, "sm_80", num_warps=8, num_stages=1)
            except trun.TrunError as error:
                raise AssertionError(f"Triton {version}: {error}") from error
        shared = {version: kernel.metadata["shared"] for version, kernel in made.items()}
        print(f"for sm_80: {', '.join(f'{bytes} bytes by Triton {version}' for version, bytes in shared.items())}")
        assert shared[OLDER] <= LIMIT < shared[NEWER], shared
        # The older code in the place of the newer, on this device: from its machine code, or its PTX on an emulator.
        target = f"sm_{session.target.split(':')[1]}"
        older = compiled(kernel, session, arguments, OLDER, target, num_warps=8, num_stages=1)
        launch(kernel, older, session, (1,), arguments)
        for name, tensor in gradients.items():
            check(f"{name} by Triton {OLDER}", tensor.numpy(), expected[name], 0.02)
        print(f"Triton {OLDER} for {target}: {older.metadata['shared']} bytes, gradients of {length} queries and keys")
    print("right")


if __name__ == "__main__":
    main()
