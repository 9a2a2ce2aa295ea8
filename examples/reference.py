#!/usr/bin/env python3
"""References for the examples, computed by NumPy alone: nothing of trun takes part.

The generators are the twins of trun-client's (`--arg 'a=f16[512,256]:randn(seed=1)'`, client/cli/generator.h): the same
seed gives the same numbers, so that a reference needs no file from the other side.

    reference.py matmul 512 512 256 --seeds 1 2 -o reference.npy    c = a @ b in fp32 from fp16 a and b
    reference.py rand --seed 3 --shape 4 5 -o x.npy                 what a generator makes
    reference.py corrupt reference.npy                              changes one element, to see a check fail
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

_GOLDEN = 0x9E3779B97F4A7C15
_SEED = 0xD1342543DE82EF95
_MASK = (1 << 64) - 1


def random_bits(seed: int, count: int) -> npt.NDArray[np.uint64]:
    """splitmix64 over a counter: 64 random bits for each of `count` indices."""
    with np.errstate(over="ignore"):
        index = np.arange(1, count + 1, dtype=np.uint64)
        z = np.uint64(seed * _SEED & _MASK) + index * np.uint64(_GOLDEN)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def _uniform(seed: int, count: int) -> npt.NDArray[np.float64]:
    return (random_bits(seed, count) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def rand(seed: int, shape: Sequence[int], lo: float = 0.0, hi: float = 1.0) -> npt.NDArray[np.float64]:
    """Uniform in [lo, hi)."""
    return (lo + (hi - lo) * _uniform(seed, math.prod(shape))).reshape(shape)


def randint(seed: int, shape: Sequence[int], lo: int = 0, hi: int = 100) -> npt.NDArray[np.int64]:
    """Whole numbers in [lo, hi)."""
    bits = random_bits(seed, math.prod(shape)) % np.uint64(hi - lo)
    return (lo + bits.astype(np.int64)).reshape(shape)


def randn(seed: int, shape: Sequence[int], mean: float = 0.0, std: float = 1.0) -> npt.NDArray[np.float64]:
    """Normal numbers by Box-Muller, two from each pair of uniform ones."""
    count = math.prod(shape)
    u = _uniform(seed, count + count % 2)
    radius = np.sqrt(-2.0 * np.log(1.0 - u[0::2]))
    angle = 6.283185307179586 * u[1::2]
    both = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1).reshape(-1)
    return (mean + std * both[:count]).reshape(shape)


def matmul(m: int, n: int, k: int, seeds: Sequence[int]) -> npt.NDArray[np.float32]:
    """The fp32 product of two random fp16 matrices."""
    a = randn(seeds[0], (m, k)).astype(np.float16).astype(np.float32)
    b = randn(seeds[1], (k, n)).astype(np.float16).astype(np.float32)
    product: npt.NDArray[np.float32] = np.matmul(a, b)
    return product


def corrupt(path: Path) -> None:
    """Adds 1 to the middle element of a .npy file."""
    array = np.load(path)
    array.reshape(-1)[array.size // 2] += 1
    np.save(path, array)


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    product = commands.add_parser("matmul", help="the product of two random matrices")
    product.add_argument("sizes", type=int, nargs=3, metavar=("M", "N", "K"))
    product.add_argument("--seeds", type=int, nargs=2, default=(1, 2))
    product.add_argument("-o", "--output", type=Path, required=True)
    for name in ("rand", "randn", "randint"):
        one = commands.add_parser(name, help=f"what {name} makes")
        one.add_argument("--seed", type=int, default=0)
        one.add_argument("--shape", type=int, nargs="*", required=True)
        one.add_argument("--dtype", default="float32")
        one.add_argument("-o", "--output", type=Path, required=True)
    damage = commands.add_parser("corrupt", help="change one element of a .npy file")
    damage.add_argument("path", type=Path)
    options = parser.parse_args(arguments)
    if options.command == "matmul":
        m, n, k = options.sizes
        np.save(options.output, matmul(m, n, k, options.seeds))
    elif options.command == "corrupt":
        corrupt(options.path)
    else:
        make = {"rand": rand, "randn": randn, "randint": randint}[options.command]
        np.save(options.output, make(options.seed, options.shape).astype(options.dtype))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
