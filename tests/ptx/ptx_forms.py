"""The instruction forms in PTX text, each with an example whose names are brought to one set.

A form is an opcode with its modifiers and what its operands are (register, number, address, vector of two …). The table
vocabulary.tsv has a line for each that the corpus gave: form's example, architecture:minor versions of Triton 3.
vocabulary_sample.tsv has, for each version, the few kernels (architecture/case) that hold most of its forms.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

TABLE = Path(__file__).parent / "vocabulary.tsv"
SAMPLE = Path(__file__).parent / "vocabulary_sample.tsv"
SAMPLED = 6  # kernels of a version: one an architecture
# Register types and the one name of each in examples.
REGISTERS = {
    "pred": "%p",
    "b8": "%c",
    "b16": "%h",
    "u16": "%uh",
    "s16": "%sh",
    "f16": "%fh",
    "b32": "%r",
    "u32": "%ur",
    "s32": "%sr",
    "f32": "%f",
    "b64": "%d",
    "u64": "%ud",
    "s64": "%sd",
    "f64": "%fd",
    "b128": "%q",
}
NAME = re.compile(r"[%$A-Za-z_][\w$]*(?:\.[xyzw]\b)?")
NUMBER = re.compile(r"(?<![\w%$])-?(?:0[xXfFdD][0-9A-Fa-f]+|\d+(?:\.\d+)?)")
# What an example may hold besides registers; a kernel's own labels, variables and parameters become one of these.
PLACES = ("shared_memory", "local_memory", "global_memory", "parameter", "call_parameter", "$there")
# Calls name functions of their module and parameters in order: only whole modules show them.
LEFT_OUT = ("call",)


@dataclass
class Forms:
    """Shape → example; shape → architecture → minor versions."""

    example: dict[str, str] = field(default_factory=dict)
    cells: dict[str, dict[int, set[int]]] = field(default_factory=dict)

    def add(self, shape: str, example: str, arch: int, minor: int) -> None:
        known = self.example.get(shape)
        if known is None or (len(example), example) < (len(known), known):
            self.example[shape] = example
        self.cells.setdefault(shape, {}).setdefault(arch, set()).add(minor)


def statements(text: str) -> Iterator[str]:
    """What ends with a semicolon; braces that open or close a scope and heads of functions by themselves."""
    text = re.sub(r"//[^\n]*|/\*.*?\*/", "", text, flags=re.DOTALL)
    text = re.sub(r"^\s*\.(?:loc|file|version|target|address_size)\b.*$", "", text, flags=re.MULTILINE)
    # A head may hold semicolons nowhere: parameters in parentheses, then directives, then the body's brace.
    pattern = re.compile(r"\s*(\{|\}|[$\w]+:|(?:\.\w+\s+)*\.(?:entry|func)\b[^{;]*|\.section[^{]*\{[^}]*\}|[^;]*;)")
    at = 0
    while match := pattern.match(text, at):
        yield match[1].strip()
        at = match.end()
    assert not text[at:].strip(), f"cannot be read: {text[at : at + 200]!r}"


def instances(text: str) -> Iterator[tuple[str, str]]:
    """Shape and example of each instruction."""
    scopes: list[dict[str, str]] = [{}]
    for statement in statements(text):
        if statement == "{":
            scopes.append({})
        elif statement == "}":
            scopes.pop()
        elif statement.startswith(".reg"):
            kind, names = re.fullmatch(r"\.reg\s+\.(\w+)\s+(.*);", statement, re.DOTALL).groups()  # type: ignore[union-attr]
            for name in re.split(r"\s*,\s*", names.strip()):
                stem = re.fullmatch(r"([^<]+)<(\d+)>", name)
                for each in [f"{stem[1]}{i}" for i in range(int(stem[2]))] if stem else [name]:
                    scopes[-1][each] = kind
        elif re.match(r"(?:\.\w+\s+)*\.(?:entry|func)\b", statement):
            place = PLACES[4] if ".func" in statement else PLACES[3]
            scopes[0].update(dict.fromkeys(re.findall(r"([\w$]+)(?:\[\d+\])?\s*[,)\n]", statement), place))
        elif statement.startswith("."):
            variable = re.search(r"([$\w]+)\s*(?:\[[^\]]*\])?\s*(?:=.*)?;$", statement, re.DOTALL)
            if variable and not statement.startswith((".pragma", ".section")):
                kind = re.search(r"\.(shared|local|param|global|const)\b", statement)
                places = {"shared": PLACES[0], "local": PLACES[1], "param": PLACES[4]}
                scopes[-1][variable[1]] = places.get(kind[1], PLACES[2]) if kind else PLACES[2]
        elif not statement.endswith(":"):
            yield from one(statement.rstrip(";").strip(), scopes)


def one(instruction: str, scopes: list[dict[str, str]]) -> Iterator[tuple[str, str]]:
    instruction = re.sub(r"^@!?\S+\s+", "", instruction)
    opcode, *rest = instruction.split(maxsplit=1) or [""]
    if not opcode or opcode.split(".")[0] in LEFT_OUT:  # "" is a semicolon by itself
        return
    operands = re.sub(r"\s+", " ", rest[0]) if rest else ""
    numbers: dict[str, int] = {}
    seen: dict[str, str] = {}

    def rename(match: re.Match[str]) -> str:
        name = match[0]
        kind = next((scope[name] for scope in reversed(scopes) if name in scope), "")
        if kind in REGISTERS:
            if name not in seen:
                numbers[kind] = numbers.get(kind, 0) + 1
                seen[name] = f"{REGISTERS[kind]}{numbers[kind]}"
            return seen[name]
        if kind:
            return kind
        # Special registers and words of the language stay; what is left of a branch is a label.
        return PLACES[5] if opcode.startswith("bra") else name

    example = NAME.sub(rename, operands)
    example = re.sub(r"\b(parameter|call_parameter)\+\d+", r"\1", example)
    shape = re.sub(r"%(?:uh|sh|fh|ur|sr|ud|sd|fd|[pchrfdq])\d+", "R", example)
    shape = re.sub(r"R(, ?R)+(?=\})", lambda m: f"R*{m[0].count('R')}", shape)
    shape = re.sub(r"\+-?#", "", NUMBER.sub("#", shape).replace(" ", ""))
    yield f"{opcode} {shape}".strip(), f"{opcode} {example}".strip()


def module(examples: Iterable[str], arch: int) -> tuple[str, dict[int, str]]:
    """A kernel of these examples for the architecture, and what stands on which line."""
    lines = [
        ".version 8.8",
        f".target sm_{arch}{'a' if arch >= 90 else ''}",
        ".address_size 64",
        ".global .align 16 .b8 global_memory[64];",
        ".visible .entry forms(.param .align 16 .b8 parameter[256])",
        "{",
        *(f".reg .{kind} {name}<400>;" for kind, name in REGISTERS.items()),
        ".shared .align 16 .b8 shared_memory[4096];",
        ".local .align 16 .b8 local_memory[4096];",
        ".param .align 16 .b8 call_parameter[64];",
    ]
    where = {}
    for example in examples:
        lines.append(f"{example};")
        where[len(lines)] = example
    return "\n".join([*lines, "$there:", "ret;", "}", ""]), where


def write(forms: Forms, path: Path = TABLE) -> None:
    lines = [
        "# By tests/ptx_vocabulary.py --forms: of each form an instruction, architecture:minor versions of Triton 3"
    ]
    for shape in sorted(forms.example):
        cells = " ".join(f"{a}:{','.join(map(str, sorted(m)))}" for a, m in sorted(forms.cells[shape].items()))
        lines.append(f"{forms.example[shape]}\t{cells}")
    path.write_text("\n".join(lines) + "\n")


def write_sample(held: dict[tuple[str, int, str], set[str]], path: Path = SAMPLE) -> None:
    """`held`: version, architecture and case → the shapes in that kernel."""
    lines = []
    for version in sorted({version for version, _, _ in held}):
        left = {(arch, case): set(shapes) for (v, arch, case), shapes in held.items() if v == version}
        chosen: list[tuple[int, str]] = []
        archs = {arch for arch, _ in left}
        while len(chosen) < SAMPLED and left:
            # Every architecture once, then whichever.
            open_archs = archs - {arch for arch, _ in chosen} or archs
            best = max((k for k in left if k[0] in open_archs), key=lambda k: (len(left[k]), k))
            chosen.append(best)
            found = left.pop(best)
            for shapes in left.values():
                shapes -= found
        lines.append("\t".join([version, *(f"{arch}/{case}" for arch, case in sorted(chosen))]))
    path.write_text("\n".join(lines) + "\n")


def read_sample(path: Path = SAMPLE) -> dict[str, list[str]]:
    rows = (line.split("\t") for line in path.read_text().splitlines())
    return {version: kernels for version, *kernels in rows}


def read(path: Path = TABLE) -> list[tuple[str, dict[int, set[int]]]]:
    """Example, architecture → minor versions."""
    table = []
    for line in path.read_text().splitlines():
        if line.startswith("#"):
            continue
        example, cells = line.split("\t")
        pairs = (cell.split(":") for cell in cells.split(" "))
        table.append((example, {int(arch): {int(m) for m in minors.split(",")} for arch, minors in pairs}))
    return table
