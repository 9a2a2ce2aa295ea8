"""A kernel as Python: its source goes to the daemon, and the second launch finds what the first one compiled."""

from __future__ import annotations

import matmul
import trun


def main() -> None:
    with trun.connect() as session:
        problem = matmul.Problem(session)
        first = problem.run(num_warps=4)
        print(f"compiled by Triton {first.toolchain}: {', '.join(level for level in first.asm)}")
        again = trun.jit(matmul.matmul.fn)  # a decorator that has seen nothing, as in another process
        found = again.warmup(*problem.arguments, **problem.constants, num_warps=4, session=session)
        assert found.cached and found.cache_key == first.cache_key
    print("right")


if __name__ == "__main__":
    main()
