"""Which of the corpus each version of Triton compiles for each architecture, and why it does not the rest: cells.tsv.

A cell is a version and an architecture. Of every case of the corpus that suits both the table says that it compiles or
what the version said instead. A case of several expressions that does not compile is tried expression by
expression: then the table has those that do not.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import corpus
import corpus_cases

TABLE = Path(__file__).parent / "cells.tsv"
ARCHS = (75, 80, 86, 89, 90, 120)
# Cells of which no kernel comes through, and why (docs/compatibility.md).
NO_SM120 = "LLVM ends the process on the first shuffle, and ptxas 12.4 does not know the target"
IMPOSSIBLE = {("3.0", 120): NO_SM120, ("3.1", 120): NO_SM120, ("3.2", 120): NO_SM120}


@dataclass
class Cell:
    version: str
    arch: int
    compiled: int = 0  # cases and single expressions
    refused: dict[str, str] = field(default_factory=dict)  # of the same → what the version said


def minor(version: str) -> corpus_cases.Version:
    major, rest = version.split(".")[:2]
    return int(major), int(rest)


def impossible(version: str, arch: int) -> str | None:
    return IMPOSSIBLE.get((version.rsplit(".", 1)[0], arch))


def suitable(version: str, arch: int) -> list[corpus_cases.Case]:
    return [case for case in corpus.cases() if case.suits(minor(version), arch)]


def expected(cell: Cell) -> int:
    """How many cases and expressions a cell with these refusals has compiled."""
    count = 0
    for case in suitable(cell.version, cell.arch):
        pieces = case.single_expressions()
        split = any(piece.name in cell.refused for piece in pieces)
        names = [piece.name for piece in pieces] if split else [case.name]
        count += sum(name not in cell.refused for name in names)
    return count


def unknown(cell: Cell) -> set[str]:
    """What the cell refuses and the corpus does not have there."""
    there = suitable(cell.version, cell.arch)
    names = {each.name for case in there for each in [case, *case.single_expressions()]}
    return set(cell.refused) - names


def plain(reason: str) -> str:
    """A reason without what differs from run to run: folders, temporary names, addresses."""
    reason = re.sub(r"/[^\s'\"]*/([^/\s'\"]+)", r"\1", reason)
    reason = re.sub(r"\btmp\w+\.", "tmp.", reason)
    reason = re.sub(r"(tensor<[^,>]*), #.*", r"\1, …", reason)  # a layout
    return re.sub(r"0x[0-9a-f]{6,}", "0x…", reason).replace("\t", " ")


def read_work(work: Path) -> list[Cell]:
    """The cells in a folder of runs of lower.py; raises ValueError where one is not whole."""
    found = []
    for path in sorted(work.glob("*/sm*/refused.json")):
        state = json.loads(path.read_text())
        cell = Cell(path.parts[-3], int(path.parts[-2].removeprefix("sm")))
        done, refused = set(state["done"]), dict(state["refused"])
        for case in suitable(cell.version, cell.arch):
            pieces = case.single_expressions()
            for piece in pieces if case.name in refused and pieces else [case]:
                if piece.name in refused:
                    cell.refused[piece.name] = plain(refused[piece.name])
                elif piece.name in done:
                    cell.compiled += 1
                else:
                    raise ValueError(f"{cell.version} sm_{cell.arch}: nothing is known of {piece.name}")
            if case.name in refused and pieces and all(piece.name in done for piece in pieces):
                # Each expression compiles and all of them at once do not: the case itself is what is refused.
                cell.compiled -= len(pieces)
                cell.refused[case.name] = plain(refused[case.name])
        found.append(cell)
    return found


def write(cells: list[Cell], path: Path = TABLE) -> None:
    lines = ["# By tests/ptx_vocabulary.py --forms. Version, architecture, what of the corpus compiles."]
    lines += [f"cell\t{cell.version}\t{cell.arch}\t{cell.compiled}" for cell in cells]
    lines.append("# What does not: case (or expression of one), what the version says, versions:architectures.")
    rows: dict[tuple[str, str], dict[str, list[int]]] = {}
    for cell in cells:
        for name, reason in cell.refused.items():
            rows.setdefault((name, reason), {}).setdefault(cell.version, []).append(cell.arch)
    for (name, reason), where in sorted(rows.items()):
        shown = " ".join(f"{version}:{','.join(map(str, archs))}" for version, archs in where.items())
        lines.append(f"refused\t{name}\t{reason}\t{shown}")
    path.write_text("\n".join(lines) + "\n")


def _fields(path: Path) -> Iterator[list[str]]:
    for line in path.read_text().splitlines():
        if not line.startswith("#"):
            yield line.split("\t")


def read(path: Path = TABLE) -> dict[tuple[str, int], Cell]:
    cells: dict[tuple[str, int], Cell] = {}
    for kind, *fields in _fields(path):
        if kind == "cell":
            cell = Cell(fields[0], int(fields[1]), int(fields[2]))
            cells[cell.version, cell.arch] = cell
        else:
            name, reason, shown = fields
            for where in shown.split(" "):
                version, archs = where.split(":")
                for arch in archs.split(","):
                    cells[version, int(arch)].refused[name] = reason
    return cells
