"""The same Python source by every Triton that the daemon has, and its files from each level by the same Triton."""

from __future__ import annotations

import pathlib
import tempfile

import matmul
import trun


def main() -> None:
    with trun.connect() as session:
        problem = matmul.Problem(session)
        compilers = [toolchain.name for toolchain in session.toolchains() if not toolchain.unusable_reason]
        assert compilers, "no Triton is known: trun-client toolchains install 3.9.0, or adopt PATH"
        for name in compilers:
            with tempfile.TemporaryDirectory() as scratch:
                kernel = problem.run(toolchain=name)
                assert kernel.toolchain == name
                problem.save(pathlib.Path(scratch), toolchain=name)
                levels = ["ttir", "ttgir", "llir", "ptx"] + (["cubin"] if matmul.runs_cubins(session) else [])
                for level in levels:
                    problem.run(**{f"{level}_dir": scratch}, toolchain=None if level == "cubin" else name)
                print(f"Triton {name}: from Python, {', '.join(levels)}")
    print("right")


if __name__ == "__main__":
    main()
