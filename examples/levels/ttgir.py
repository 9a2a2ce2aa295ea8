"""A TTGIR file in the place of the source: layouts and the number of warps are in it, the target is a minimum."""

from __future__ import annotations

import pathlib
import tempfile

import matmul
import trun


def main() -> None:
    with trun.connect() as session, tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch)
        problem = matmul.Problem(session)
        made = problem.save(folder).metadata["target"]
        kernel = problem.run(ttgir_dir=folder)
        print(f"{kernel.metadata['num_warps']} warps, as the file says; it was made for sm_{made['arch']}")
        assert "python" not in kernel.asm, "the source was compiled, not the file"
    print("right")


if __name__ == "__main__":
    main()
