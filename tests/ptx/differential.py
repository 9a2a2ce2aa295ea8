"""Runs random programs (fuzz_programs.py) on a GPU and on the emulator, and compares the answers bit for bit.

  python differential.py --emulator build/dev/tests/ptx_runner --seed 1 --seconds 300
  python differential.py --emulator build/dev/tests/ptx_runner --seed 1 --count 2000
  python differential.py --seed 1 --count 600 --record fuzz_answers.xz

Program number i is made from SEED + i alone. Where the answers differ, the program is made smaller by leaving out
steps as long as they still differ; what remains is printed with its seed and both answers. A program that only one side
refuses differs, too. Where the GPU gives the emulator's answer once its compiler does not optimise, that compiler is at
odds with itself: such programs are counted, and a few of them printed. Ends with 1 where the sides differ otherwise.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import re
import shlex
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from queue import Empty
from typing import Any

import fuzz_answers
from fuzz_programs import POOL, FuzzProgram, fuzz_program, pool
from fuzz_steps import ROW
from program_tree import Block, Step, leaving_out, shrink, size, steps, text
from runner_process import NO_ANSWER, RunnerLost, RunnerProcess

GPU = [sys.executable, str(Path(__file__).with_name("gpu_runner.py"))]
# After so many differences a worker only counts.
SHRUNK_BY_A_WORKER = 6
OPTIMISED_SHRUNK_BY_A_WORKER = 1
SECONDS_TO_SHRINK = 30
# Of a literal that says how far to shift 16 bits the GPU's compiler takes the lower 16 bits, also without optimisation;
# PTX shifts everything out.
KNOWN = re.compile(r"(?:@!?%p\d )?sh[lr]\.[bsu]16 .*, (?:-\d+|\d{6,});")


@dataclass
class Side:
    """One of the two that answer."""

    name: str
    process: RunnerProcess
    folder: Path

    @property
    def answer(self) -> Path:
        return self.folder / f"{self.name}.answer"

    def send(self, program: FuzzProgram, ptx: Path, level: int | None = None) -> None:
        self.answer.write_bytes(program.first())
        request: dict[str, Any] = {
            "op": "run",
            "arch": 90,
            "threads": 1,
            "seconds": 20,
            "ptx": str(ptx),
            "grid": [program.programs, 1, 1],
            "block": [program.threads, 1, 1],
            "buffers": [
                {"file": str(self.folder / program.input), "bytes": POOL, "input": True},
                {"file": str(self.answer), "bytes": program.answer_bytes},
            ],
            "parameters": [{"buffer": 0}, {"buffer": 1}],
        }
        if level is not None:
            request["optimise"] = level
        self.process.send(request)

    def receive(self) -> bytes | str:
        """What it wrote, or why it did not."""
        try:
            answer = self.process.receive()
        except RunnerLost as error:
            return f"lost: {error}"
        if "error" in answer:
            place = f" {answer['fault']} (line {answer['line']})" if answer.get("fault") else ""
            return f"{answer['error']}{place}"
        return self.answer.read_bytes()


@dataclass
class Difference:
    """A program on which the sides part, as small as it became from so many steps. `optimiser`: not without the
    optimiser of the GPU's compiler."""

    program: FuzzProgram
    steps: int
    answers: tuple[bytes | str, bytes | str]
    optimiser: bool


def place(program: FuzzProgram, offset: int) -> tuple[str, int, int]:
    """What stands at an offset of the answer: its name, where it begins and ends."""
    if offset < program.head_bytes:
        begin = offset & ~7
        return f"8 bytes at {begin} (atomics and bulk copies)", begin, begin + 8
    thread, at = divmod(offset - program.head_bytes, ROW)
    name, first, width = next(
        n for n in (("predicates", 108, 4), ("%h", 96, 2), ("%d", 48, 8), ("%r", 0, 4)) if at >= n[1]
    )
    number = (at - first) // width
    begin = offset - at + first + number * width
    register = name if name == "predicates" else f"{name}{number}"
    return (
        f"{register} of thread {thread % program.threads} of program {thread // program.threads}",
        begin,
        begin + width,
    )


def describe(program: FuzzProgram, answers: tuple[bytes | str, bytes | str], names: tuple[str, str]) -> list[str]:
    first, second = answers
    if isinstance(first, str) or isinstance(second, str):
        words = (answer if isinstance(answer, str) else "an answer" for answer in answers)
        return [f"  {name}: {what}" for name, what in zip(names, words, strict=True)]
    wrong = [i for i in range(0, len(first), 2) if first[i : i + 2] != second[i : i + 2]]
    places = list(dict.fromkeys(place(program, i) for i in wrong))
    lines = [f"  {len(places)} registers or cells differ:"]
    for what, begin, end in places[:4]:
        sides = (f"{name} {answer[begin:end][::-1].hex()}" for name, answer in zip(names, (first, second), strict=True))
        lines.append(f"  {what}: {', '.join(sides)}")
    return lines


class Comparison:
    """Both sides, and programs that go to them. Not thread-safe: each worker has one."""

    def __init__(self, commands: tuple[list[str], list[str]], names: tuple[str, str], folder: Path) -> None:
        self.names, self.folder = names, folder
        self.sides = [Side(n, RunnerProcess(c), folder) for n, c in zip(names, commands, strict=True)]
        self.ptx = folder / "program.ptx"
        self.pools: set[str] = set()

    def prepare(self, program: FuzzProgram) -> None:
        if program.input not in self.pools:
            (self.folder / program.input).write_bytes(pool(program.input))
            self.pools.add(program.input)
        self.ptx.write_text(program.ptx)

    def answers(self, program: FuzzProgram, level: int | None = None) -> tuple[bytes | str, bytes | str]:
        """`level`: of the GPU's compiler."""
        self.prepare(program)
        for side in self.sides:
            side.send(program, self.ptx, level)
        return self.sides[0].receive(), self.sides[1].receive()

    def answer_of_first(self, program: FuzzProgram, level: int | None = None) -> bytes | str:
        self.prepare(program)
        self.sides[0].send(program, self.ptx, level)
        return self.sides[0].receive()

    def smallest(self, program: FuzzProgram, before: tuple[bytes | str, bytes | str], optimiser: bool) -> Difference:
        # A difference that is there without optimisation is looked for without, lest another take its place.
        level = None if optimiser or self.names[0] != "GPU" else 0

        def refusals(answers: tuple[bytes | str, bytes | str]) -> list[bool]:
            return [isinstance(answer, str) for answer in answers]

        end = time.monotonic() + SECONDS_TO_SHRINK

        def still(tree: Block) -> bool:
            if time.monotonic() > end:
                return False
            smaller = replace(program, tree=tree)
            answers = self.answers(smaller, level)
            # The same kind of difference: a refusal must not become another answer on the way, nor the reverse.
            if answers[0] == answers[1] or refusals(answers) != refusals(before):
                return False
            return not optimiser or self.answer_of_first(smaller, 0) == answers[1]

        # A program that hangs costs its whole time at every attempt.
        hangs = any(isinstance(answer, str) and NO_ANSWER in answer for answer in before)
        found = program if hangs else replace(program, tree=shrink(program.tree, still))
        answers = before if hangs else self.answers(found, level)
        return Difference(found, size(program.tree) - 1, answers, optimiser)

    def close(self) -> None:
        for side in self.sides:
            side.process.stop()


OPCODE = re.compile(r"(?:@!?%\w+ )?([a-z][\w.:]*) ")


def opcodes(step: Step) -> set[str]:
    """Of a step, less the moves and tests that settle its NaNs."""
    found = {match[1] for line in step.lines if (match := OPCODE.match(line))}
    return {opcode for opcode in found if not opcode.startswith(("setp.nan.", "mov."))} or found


@dataclass
class Totals:
    compared: int = 0
    differ: int = 0
    optimiser: int = 0
    alike: int = 0
    refused: int = 0

    def add(self, other: Totals) -> None:
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)


def report(found: Difference, names: tuple[str, str], keep: Path | None) -> str:
    body = [line for part in found.program.tree.parts for node in part for line in text(node)]
    what = "the GPU's compiler differs from itself without optimisation" if found.optimiser else "DIFFERENT"
    program = found.program
    launched = f"{program.programs} programs of {program.threads} threads"
    lines = [
        f"seed {program.seed}: {what}; {launched}; what is left of {found.steps} steps:",
        *(f"    {line}" for line in body),
        *describe(program, found.answers, names),
    ]
    if keep is not None:
        path = keep / f"seed-{program.seed}.ptx"
        path.write_text(program.ptx)
        lines.append(f"  whole: {path}")
    return "\n".join(lines)


class Worker:
    """Compares every JOBS-th program until the time is up or the programs are through."""

    def __init__(self, arguments: argparse.Namespace, number: int, queue: Any, folder: Path) -> None:
        self.arguments, self.number, self.queue = arguments, number, queue
        self.names = (arguments.name, "emulator")
        self.comparison = Comparison(
            (shlex.split(arguments.reference), shlex.split(arguments.emulator)), self.names, folder
        )
        self.totals = Totals()
        self.level = 0 if arguments.name == "GPU" else None
        self.explained: list[set[str]] = []

    def alike(self, program: FuzzProgram) -> bool:
        """Whether the sides agree once what is known, or what made an earlier program differ, is left out."""
        reasons: list[Callable[[Step], bool]] = [lambda step: any(map(KNOWN.match, step.lines))]
        reasons += [lambda step, kinds=kinds: bool(opcodes(step) & kinds) for kinds in self.explained]  # type: ignore[misc]
        for reason in reasons:
            smaller = leaving_out(program.tree, reason)
            first, second = self.comparison.answers(replace(program, tree=smaller), self.level)
            if first == second:
                return True
        return False

    def compare(self, program: FuzzProgram) -> None:
        first, second = self.comparison.answers(program)
        self.totals.compared += 1
        if isinstance(first, str) and isinstance(second, str):
            self.totals.refused += 1
            self.queue.put(("report", f"seed {program.seed}: both refuse it: {first} / {second}"))
        elif first != second:
            self.differs(program, (first, second))

    def differs(self, program: FuzzProgram, answers: tuple[bytes | str, bytes | str]) -> None:
        if self.names[0] == "GPU":
            unoptimised = self.comparison.answer_of_first(program, 0)
            if unoptimised == answers[1]:
                self.totals.optimiser += 1
                if self.totals.optimiser > OPTIMISED_SHRUNK_BY_A_WORKER:
                    return
                found = self.comparison.smallest(program, answers, True)
                self.queue.put(("report", report(found, self.names, self.arguments.keep)))
                return
            answers = (unoptimised, answers[1])
        if self.alike(program):
            self.totals.alike += 1
            return
        self.totals.differ += 1
        if self.totals.differ > SHRUNK_BY_A_WORKER:
            self.queue.put(("report", f"seed {program.seed}: DIFFERENT, not made smaller any more"))
            return
        found = self.comparison.smallest(program, answers, False)
        left = [opcodes(step) for step in steps(found.program.tree)]
        if len(left) == 1:
            self.explained.append(left[0])
        self.queue.put(("report", report(found, self.names, self.arguments.keep)))

    def record(self, program: FuzzProgram) -> None:
        answer = self.comparison.answer_of_first(program)
        if isinstance(answer, str):
            self.queue.put(("report", f"seed {program.seed}: not recorded: {answer}"))
            self.totals.refused += 1
        else:
            self.queue.put(("answer", fuzz_answers.recorded(program, answer)))
            self.totals.compared += 1

    def work(self) -> None:
        arguments = self.arguments
        end = time.monotonic() + arguments.seconds
        seed, last = arguments.seed + self.number, arguments.seed + arguments.count
        one = self.record if arguments.record else self.compare
        while (not arguments.seconds or time.monotonic() < end) and (not arguments.count or seed < last):
            one(fuzz_program(seed))
            seed += arguments.jobs
        self.comparison.close()
        self.queue.put(("totals", self.totals))


def begin(arguments: argparse.Namespace, number: int, queue: Any) -> None:
    with tempfile.TemporaryDirectory(prefix="differential-", dir="/dev/shm") as folder:
        Worker(arguments, number, queue, Path(folder)).work()


def run(arguments: argparse.Namespace) -> int:
    device = {}
    if arguments.name == "GPU":
        process = RunnerProcess(shlex.split(arguments.reference))
        process.send({"op": "device"})
        try:
            device = process.receive()
        except RunnerLost as error:
            print(f"no GPU answers here: {error}", file=sys.stderr)
            return 77
        process.stop()
        print(f"{device['device']}, driver {device['driver']}", flush=True)
    began = time.monotonic()
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    workers = [context.Process(target=begin, args=(arguments, number, queue)) for number in range(arguments.jobs)]
    for worker in workers:
        worker.start()
    total, found, ended = Totals(), [], 0
    while ended < len(workers):
        try:
            kind, content = queue.get(timeout=1)
        except Empty:
            if any(worker.exitcode for worker in workers):
                break
            continue
        if kind == "report":
            print(content, flush=True)
        elif kind == "answer":
            found.append(content)
        else:
            total.add(content)
            ended += 1
    for worker in workers:
        worker.join()
    seconds = time.monotonic() - began
    if arguments.record:
        fuzz_answers.write(arguments.record, device, found)
        print(f"{len(found)} programs recorded in {seconds:.0f} s, {total.refused} refused")
    else:
        print(
            f"{total.compared} programs from seed {arguments.seed} in {seconds:.0f} s by {arguments.jobs} workers: "
            f"{total.differ} differ, {total.alike} more for a reason that was known before, "
            f"{total.optimiser} only by the optimiser of the GPU's compiler, {total.refused} refused by both"
        )
    if any(worker.exitcode for worker in workers):
        print("a worker ended early: what it had to say stands above", file=sys.stderr)
        return 2
    return 1 if total.differ or total.alike or total.refused else 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1, help="of the first program")
    parser.add_argument("--count", type=int, default=0, help="how many programs")
    parser.add_argument("--seconds", type=float, default=0, help="how long")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="workers, each with a process a side")
    parser.add_argument("--emulator", default="build/dev/tests/ptx_runner", help="the emulator's runner")
    parser.add_argument("--reference", default="", help="another runner in the GPU's place")
    parser.add_argument("--keep", type=Path, help="a folder for the programs that differ")
    parser.add_argument("--record", type=Path, help="writes what the GPU answers to this file instead of comparing")
    arguments = parser.parse_args()
    if not arguments.count and not arguments.seconds:
        parser.error("say --seconds or --count: when is it enough?")
    arguments.name = "reference" if arguments.reference else "GPU"
    arguments.reference = arguments.reference or shlex.join(GPU)
    if arguments.keep is not None:
        arguments.keep.mkdir(parents=True, exist_ok=True)
    sys.exit(run(arguments))


if __name__ == "__main__":
    main()
