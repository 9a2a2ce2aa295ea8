"""Machine code with its metadata JSON in the place of the source: run by a GPU; an emulator says why it cannot."""

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
        print(f"{(folder / 'matmul.cubin').stat().st_size} bytes of machine code")
        if matmul.runs_cubins(session):
            kernel = problem.run(cubin_dir=folder)
            assert list(kernel.asm) == ["cubin"]
        else:
            try:
                problem.run(cubin_dir=folder)
            except trun.errors.UnsupportedLevelError as error:
                assert "cannot run a cubin" in str(error), error
                print(f"{session.device}: {error.message}")
            else:
                raise AssertionError("an emulator took machine code")
            problem.run(ptx_dir=folder)  # the PTX of the same compile
    print("right")


if __name__ == "__main__":
    main()
