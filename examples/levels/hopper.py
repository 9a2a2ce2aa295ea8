"""Hopper: a matmul on tensor descriptors (TMA) and wgmma, from Python and from the file of every level below it."""

from __future__ import annotations

import numpy as np
import trun
import trun.language as tl
from matmul import runs_cubins

BLOCK = 64


@trun.jit
def tma_matmul(a, b, c, k, BLOCK_K: tl.constexpr, BLOCK: tl.constexpr):
    """a and b are descriptors that the host made: a tile is one copy, past the edge it is zero."""
    row, column = tl.program_id(0) * BLOCK, tl.program_id(1) * BLOCK
    total = tl.zeros((BLOCK, BLOCK), dtype=tl.float32)
    for start in range(0, k, BLOCK_K):
        total += tl.dot(a.load([row, start]), b.load([start, column]))
    c.store([row, column], total.to(tl.float16))


def main(m: int = 128, n: int = 64, k: int = 192) -> None:
    rng = np.random.default_rng(1)
    a, b = (rng.standard_normal(shape).astype(np.float16) for shape in ((m, k), (k, n)))
    expected = a.astype(np.float32) @ b.astype(np.float32)
    with trun.connect(device=hopper()) as session:
        tensors = [session.tensor(a), session.tensor(b), session.zeros((m, n), dtype="float16")]
        descriptors = [trun.TensorDescriptor(tensor, block_shape=(BLOCK, BLOCK)) for tensor in tensors]

        def run(**how: object) -> trun.Kernel:
            tensors[2].fill(0)
            grid = (trun.cdiv(m, BLOCK), trun.cdiv(n, BLOCK))
            kernel = tma_matmul[grid](*descriptors, k, BLOCK_K=BLOCK, BLOCK=BLOCK, **how)
            got = tensors[2].numpy().astype(np.float32)
            np.testing.assert_allclose(got, expected, rtol=2e-3, atol=2e-2, err_msg=str(list(how)))
            return kernel

        first = run()
        ptx = str(first.asm["ptx"])
        assert "cp.async.bulk.tensor" in ptx and "wgmma.mma_async" in ptx
        levels = ["ttir", "ttgir", "llir", "ptx"] + (["cubin"] if runs_cubins(session) else [])
        for level in levels:
            # A TTIR holds no options; below it the metadata belongs to the file.
            metadata = {} if level == "ttir" else {"metadata_json": first.metadata}
            kernel = run(**{f"{level}_src": first.asm[level]}, **metadata, toolchain=first.toolchain)
            print(f"from {level}: {kernel.shared_bytes} bytes of shared memory")
        run(ttgir_src=first.asm["ttgir"], toolchain=first.toolchain)  # a bare TTGIR says how its descriptors are passed
    print("right")


def hopper() -> str:
    """The session's own device where it is one, else the first that is."""
    with trun.connect() as session:
        devices = session.devices()
        default = session.device
    found = [device.device for device in devices if device.target.startswith("cuda:90") and not device.unusable_reason]
    assert found, "no device of sm_90: start trund with --emulator sm_90"
    return default if default in found else found[0]


if __name__ == "__main__":
    main()
