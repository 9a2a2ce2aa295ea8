"""An LLIR file with its metadata JSON in the place of the source."""

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
        kernel = problem.run(llir_dir=folder)
        print(f"{kernel.shared_bytes} bytes of shared memory, as matmul.json says; it was made for sm_{made['arch']}")
        assert "python" not in kernel.asm, "the source was compiled, not the file"
    print("right")


if __name__ == "__main__":
    main()
