#!/usr/bin/env python3
"""Compiles the corpus (tests/ptx/corpus.py) with every installed Triton for every architecture; fails on a form that
the emulator cannot load, or a result that is not NumPy's.

usage: ptx_vocabulary.py [--build build/dev] [--toolchains build/toolchains] [--work FOLDER] [--versions V,V]
                         [--archs 75,80] [--sample N] [--only TEXT] [--kept] [--check uninit,race,async] [--forms]

--sample N takes every Nth case, another one for each version and architecture. --kept uses what an earlier run left.
--forms runs nothing: it writes the forms in what earlier runs left in FOLDER (--work) to tests/ptx/vocabulary.tsv, the
kernels that CI compiles anew to vocabulary_sample.tsv, and which of the corpus each version compiles for each
architecture to cells.tsv. The runs have to have been whole: no --sample, no --only.
--check runs every kernel a second time with these checks of the emulator: none may be reported.
Runs in a Python with NumPy and ml_dtypes; each Triton compiles in its own.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "ptx"))

import cells  # noqa: E402
import corpus  # noqa: E402
import corpus_cases  # noqa: E402
import emulate  # noqa: E402
import ptx_forms  # noqa: E402


@dataclass
class Tally:
    """What one version gave for one architecture."""

    loaded: int = 0
    ran: int = 0
    compared: int = 0
    refused: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def chosen(version: str, arch: int, sample: int, only: str) -> list[corpus_cases.Case]:
    suitable = [case for case in cells.suitable(version, arch) if only in case.name]
    start = (cells.minor(version)[1] * len(cells.ARCHS) + cells.ARCHS.index(arch)) % sample
    return suitable[start::sample]


def lower(python: Path, folder: Path, arch: int, names: list[str]) -> None:
    command = [str(python), str(ROOT / "tests/ptx/lower.py"), str(folder), str(arch), *names]
    for _ in range(100):
        done = subprocess.run(command, capture_output=True, text=True, timeout=3600, check=False)
        if done.returncode >= 0:  # otherwise LLVM has ended the process: the next one leaves that kernel out
            break
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command[:4])} ended with {done.returncode}:\n{done.stderr[-2000:]}")


def examine(runner: emulate.Runner, cases: list[corpus_cases.Case], folder: Path, arch: int) -> Tally:
    tally = Tally(refused=json.loads((folder / "refused.json").read_text())["refused"])
    for case in cases:
        for piece in [case] if case.name not in tally.refused else case.single_expressions():
            if piece.name in tally.refused:
                continue
            ptx = folder / f"{piece.name}.ptx"
            problems = runner.load(ptx, arch)
            tally.problems += [f"{piece.name}: {problem}" for problem in problems]
            if problems:
                continue
            tally.loaded += 1
            if not piece.runs:
                continue
            outcome = emulate.run(runner, piece, folder, arch)
            tally.ran += 1
            tally.compared += outcome.checked
            tally.problems += [f"{piece.name}: {problem}" for problem in outcome.problems]
    return tally


def write_forms(work: Path) -> None:
    cells.write(cells.read_work(work))
    forms, held = ptx_forms.Forms(), {}
    whole = {case.name for case in corpus.cases()}  # others are expressions of one that does not compile whole
    for path in sorted(work.glob("*/sm*/*.ptx")):
        version, arch = path.parts[-3], int(path.parts[-2].removeprefix("sm"))
        found = list(ptx_forms.instances(path.read_text()))
        for shape, example in found:
            forms.add(shape, example, arch, cells.minor(version)[1])
        if path.stem in whole:
            held[version, arch, path.stem] = {shape for shape, _ in found}
    ptx_forms.write(forms)
    ptx_forms.write_sample(held)
    print(f"{len(forms.example)} forms; {len(held)} kernels to choose from")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=Path, default=ROOT / "build/dev")
    parser.add_argument("--toolchains", type=Path, default=ROOT / "build/toolchains")
    parser.add_argument("--work", type=Path)
    parser.add_argument("--versions", default="")
    parser.add_argument("--archs", default=",".join(str(a) for a in cells.ARCHS))
    parser.add_argument("--sample", type=int, default=1)
    parser.add_argument("--only", default="")
    parser.add_argument("--kept", action="store_true")
    parser.add_argument("--check", default="")
    parser.add_argument("--forms", action="store_true")
    arguments = parser.parse_args()
    if arguments.forms:
        if not arguments.work:
            parser.error("--forms needs --work: the folder of earlier runs")
        write_forms(arguments.work)
        return 0
    versions = (
        arguments.versions.split(",") if arguments.versions else sorted(p.name for p in arguments.toolchains.iterdir())
    )
    work = arguments.work or Path(tempfile.mkdtemp(prefix="ptx-vocabulary-"))
    runner = emulate.Runner(arguments.build / "tests/ptx_runner")
    strict = emulate.Runner(arguments.build / "tests/ptx_runner", arguments.check) if arguments.check else None
    totals: Counter[str] = Counter()
    for version in versions:
        for arch in [int(a) for a in arguments.archs.split(",")]:
            if cells.impossible(version, arch):
                continue
            cases = chosen(version, arch, arguments.sample, arguments.only)
            folder, started = work / version / f"sm{arch}", time.monotonic()
            if not arguments.kept:
                lower(arguments.toolchains / version / "bin/python", work / version, arch, [c.name for c in cases])
            tally = examine(runner, cases, folder, arch)
            if strict is not None:
                checked = examine(strict, cases, folder, arch)
                tally.problems += [f"with {arguments.check}: {problem}" for problem in checked.problems]
                assert checked.ran == tally.ran
            totals.update(
                loaded=tally.loaded,
                ran=tally.ran,
                compared=tally.compared,
                problems=len(tally.problems),
                refused=len(tally.refused),
            )
            print(
                f"{version} sm_{arch}: {tally.loaded} loaded, {tally.ran} ran, {tally.compared} results compared, "
                f"{len(tally.refused)} that this Triton refuses, {len(tally.problems)} problems, "
                f"{time.monotonic() - started:.0f} s",
                flush=True,
            )
            for problem in tally.problems:
                print(f"  {problem}", flush=True)
    runner.close()
    if strict is not None:
        strict.close()
    print(f"all: {dict(totals)}")
    return 1 if totals["problems"] or not totals["compared"] else 0


if __name__ == "__main__":
    sys.exit(main())
