"""A TTIR file in the place of the source: options are chosen here, everything below is compiled from it."""

from __future__ import annotations

import pathlib
import tempfile

import matmul
import trun


def main() -> None:
    with trun.connect() as session, tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch)
        problem = matmul.Problem(session)
        problem.save(folder)
        for warps in (2, 4):
            kernel = problem.run(ttir_dir=folder, num_warps=warps)
            print(f"{warps} warps: {len(str(kernel.asm['ptx'])) / 1024:.0f} KiB of PTX")
        assert "python" not in kernel.asm, "the source was compiled, not the file"
    print("right")


if __name__ == "__main__":
    main()
