#!/usr/bin/env python3
"""Writes docs/compatibility.md: what each Triton compiles, found out by compiling it in a worker of each.

    tests/toolchain/compatibility.py            writes the tables anew (a few minutes)
    tests/toolchain/compatibility.py --check    says where a compile contradicts the page, and exits 1

Needs every version (deploy/setup.sh --for tests); --versions 3.4.0,3.9.0 checks the cells of these alone.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from worker import ROOT, Died, Refused, Worker

PAGE = ROOT / "docs/compatibility.md"
VERSIONS = ["3.0.0", "3.1.0", "3.2.0", "3.3.1", "3.4.0", "3.5.1", "3.6.0", "3.7.1", "3.8.0", "3.9.0"]
TARGETS: list[int | str] = [75, 80, 86, 89, 90, 100, 120, "gfx90a", "gfx942", "gfx1100"]
KERNELS = ["vector_add", "layer_norm", "matmul_fp16"]
PORTABLE_LEVELS = ["ttir", "ttgir", "llir", "ptx"]
PORTABLE_KERNELS = ["vector_add", "matmul_fp16"]
YES, PARTLY, NO = "yes", "partly", "no"


class Workers:
    """One worker of each version; one that died is replaced, as the daemon does."""

    def __init__(self) -> None:
        self._workers: dict[str, Worker] = {}
        self.deaths = 0

    def compile(self, version: str, source: bytes, level: str, target: int | str, metadata: object = None) -> object:
        """A Result, or a Refused or Died."""
        if version not in self._workers:
            self._workers[version] = Worker(version)
        to = "cubin" if isinstance(target, int) else "hsaco"
        try:
            return self._workers[version].compile(source, level, to, target, metadata=metadata)
        except Refused as error:
            return error
        except Died as error:
            self.deaths += 1
            self._workers.pop(version).close()
            return error

    def close(self) -> None:
        for worker in self._workers.values():
            worker.close()


def source_of(kernel: str) -> bytes:
    return (ROOT / f"examples/kernels/{kernel}.ttir").read_bytes()


def verdict(answers: list[object]) -> str:
    good = [not isinstance(answer, Exception) for answer in answers]
    return YES if all(good) else PARTLY if any(good) else NO


def name(target: int | str) -> str:
    return f"sm_{target}" if isinstance(target, int) else target


def target_cells(workers: Workers, versions: list[str]) -> Iterator[tuple[str, str, str]]:
    """(version, target, verdict)"""
    for version in versions:
        for target in TARGETS:
            if not isinstance(target, int) and version < "3.5":
                # They link with whatever ld.lld the machine has: what comes out is not the wheel's doing.
                yield version, name(target), NO
                continue
            answers = [workers.compile(version, source_of(kernel), "ttir", target) for kernel in KERNELS]
            yield version, name(target), verdict(answers)


def portable_cells(workers: Workers, level: str, versions: list[str]) -> Iterator[tuple[str, str, str]]:
    """(made by, compiled by, verdict), for sm_90."""
    for maker in versions:
        made = []
        for kernel in PORTABLE_KERNELS:
            result = workers.compile(maker, source_of(kernel), "ttir", 90)
            assert not isinstance(result, Exception), f"{maker} does not compile {kernel}: {result}"
            artifact = source_of(kernel) if level == "ttir" else result.artifacts[level]  # type: ignore[attr-defined]
            made.append((artifact, result.metadata))  # type: ignore[attr-defined]
        for taker in versions:
            answers = [
                workers.compile(taker, artifact, level, 90, None if level == "ttir" else metadata)
                for artifact, metadata in made
            ]
            yield maker, taker, verdict(answers)


def table(corner: str, rows: list[str], columns: list[str], cells: dict[tuple[str, str], str]) -> str:
    lines = ["| " + " | ".join([corner, *columns]) + " |", "|" + " --- |" * (len(columns) + 1)]
    lines += ["| " + " | ".join([row, *(cells[row, column] for column in columns)]) + " |" for row in rows]
    return "\n".join(lines)


def read_table(title: str) -> dict[tuple[str, str], str]:
    """The cells of the table under a heading of the page."""
    section = PAGE.read_text().split(f"## {title}\n", 1)[1].split("\n## ", 1)[0]
    first = section[section.index("\n|") + 1 :].split("\n\n", 1)[0]  # others may follow it
    rows = [[c.strip() for c in line.strip("|").split("|")] for line in first.splitlines()]
    columns = rows[0][1:]
    return {(row[0], column): cell for row in rows[2:] for column, cell in zip(columns, row[1:], strict=True)}


TARGETS_TITLE = "Targets"
LEVEL_TITLES = {level: f"{level.upper()} of one version in another" for level in PORTABLE_LEVELS if level != "ttir"}


def measure(workers: Workers, versions: list[str], targets: bool = True) -> dict[str, dict[tuple[str, str], str]]:
    found = {}
    if targets:
        found[TARGETS_TITLE] = {(v, t): cell for v, t, cell in target_cells(workers, versions)}
    for level, title in LEVEL_TITLES.items():
        found[title] = {(a, b): cell for a, b, cell in portable_cells(workers, level, versions)}
    return found


def write(found: dict[str, dict[tuple[str, str], str]]) -> None:
    text = PAGE.read_text()
    for title, cells in found.items():
        columns = [name(t) for t in TARGETS] if title == TARGETS_TITLE else VERSIONS
        made = table("Triton" if title == TARGETS_TITLE else "made by ↓ compiled by →", VERSIONS, columns, cells)
        text = re.sub(
            rf"(## {re.escape(title)}\n.*?\n)\|.*?\|\n(?=\n|\Z)",
            lambda m, t=made: m.group(1) + t + "\n",
            text,
            flags=re.S,
        )
    PAGE.write_text(text)


def differences(found: dict[str, dict[tuple[str, str], str]]) -> list[str]:
    problems = []
    for title, cells in found.items():
        page = read_table(title)
        problems += [
            f"{title}: {row} / {column} is '{cell}', the page says '{page.get((row, column))}'"
            for (row, column), cell in cells.items()
            if page.get((row, column)) != cell
        ]
    return problems


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--versions", default=",".join(VERSIONS))
    options = parser.parse_args()
    workers = Workers()
    found = measure(workers, options.versions.split(","))
    workers.close()
    if not options.check:
        write(found)
        return 0
    problems = differences(found)
    print("\n".join(problems) or "the page says what the compilers do")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
