"""Writes one instruction of a random program from its template, and what makes its answer the only right one."""

from __future__ import annotations

import re

from forms import FLOATS, Random, float_value, integer_value
from instruction_templates import FAMILIES, NO_GUARD
from program_tree import Step

# How many registers of a kind a program computes with: %r0 …, %d0 …, %h0 …, %p0 …
COUNT = {"R": 12, "D": 6, "H": 6, "P": 4}
NAME = {"R": "%r", "D": "%d", "H": "%h", "P": "%p"}
NUMBER_OF = {"A": ("R", 32), "B": ("D", 64), "E": ("H", 16), "F": ("R", 32), "G": ("D", 64)}
NANS = {"f32": "0x7fffffff", "tf32": "0x7fffffff", "f64": "0x7fffffffffffffff", "f16": "0x7fff", "bf16": "0x7fff"}
LETTER = re.compile(r"\b[RDHPABEFGKJL]\b")
FAMILY_NAMES = tuple(FAMILIES)


class Writer:
    """Random choices of one program. Registers beside those above, which no template writes: %x and %q to settle with,
    %t… to compute addresses with."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)

    def pick(self, count: int) -> int:
        return self.random.next() % count

    def one(self, *choices: str) -> str:
        return choices[self.pick(len(choices))]

    def register(self, letter: str) -> str:
        return NAME[letter] + str(self.pick(COUNT[letter]))

    def distinct(self, letter: str, count: int) -> list[str]:
        first, step = self.pick(COUNT[letter]), 1 if self.pick(2) else COUNT[letter] - 1
        return [f"{NAME[letter]}{(first + i * step) % COUNT[letter]}" for i in range(count)]

    def operand(self, letter: str) -> str:
        if letter in "KJL":
            return str(self.pick({"K": 32, "J": 64, "L": 256}[letter]))
        if letter in NUMBER_OF:
            letter_of_register, bits = NUMBER_OF[letter]
            if self.pick(6) != 0:
                return self.register(letter_of_register)
            if letter in "FG":
                kind = "f32" if letter == "F" else "f64"
                value = float_value(kind, self.random)
                exponent, mantissa = FLOATS[kind]
                # A NaN that is written out may reach a result whose payload is nobody's promise.
                if (value >> mantissa) & ((1 << exponent) - 1) == (1 << exponent) - 1:
                    value &= ~((1 << mantissa) - 1)
                return f"0f{value:08X}" if letter == "F" else f"0d{value:016X}"
            value = integer_value(bits, self.random)
            return str(value - (1 << bits) if self.pick(2) and value >> (bits - 1) else value)
        return self.register(letter)

    def fill(self, template: str) -> str:
        head, operands = template.split(" ", 1)
        # What is written comes first; registers that are written together differ.
        end = operands.index("}") + 1 if operands[0] == "{" else operands.index(",")
        written, rest = operands[:end], operands[end:]
        letters = LETTER.findall(written)
        names = iter(self.distinct(letters[0], len(letters)) if len(set(letters)) == 1 else map(self.register, letters))
        written = LETTER.sub(lambda _: next(names), written)
        return f"{head} {written}{LETTER.sub(lambda match: self.operand(match.group()), rest)};"

    def guard(self) -> str:
        return f"@{self.one('', '!')}%p{self.pick(COUNT['P'])} "

    def instruction(self) -> Step:
        family = FAMILIES[FAMILY_NAMES[self.pick(len(FAMILY_NAMES))]]
        line = self.fill(family[self.pick(len(family))])
        settled = settle(line)
        if self.pick(8) == 0 and not line.startswith(NO_GUARD):
            line = self.guard() + line
        return Step((line, *settled))


def settle(line: str) -> list[str]:
    """One NaN for all: which of its bits survive depends on what the GPU's compiler makes of the whole program."""
    head, operands = line.split(" ", 1)
    register = re.split(r"[,|]", operands)[0]
    words = head.split(".")
    if words[0] in ("setp", "testp") or not register.startswith("%"):
        return []
    kind = words[-2] if words[0] in ("cvt", "set") else words[-1]
    if words[0] == "slct":
        kind = words[-2]
    if kind in NANS:
        bits = {"%r": 32, "%d": 64, "%h": 16}[register[:2]]
        return [
            f"setp.nan.{kind.replace('tf32', 'f32')} %q, {register}, {register};",
            f"@%q mov.b{bits} {register}, {NANS[kind]};",
        ]
    if kind in ("f16x2", "bf16x2"):
        lines = [f"mov.b32 {{%x0, %x1}}, {register};"]
        for half in ("%x0", "%x1"):
            lines += [f"setp.nan.{kind[:-2]} %q, {half}, {half};", f"@%q mov.b16 {half}, 0x7fff;"]
        return [*lines, f"mov.b32 {register}, {{%x0, %x1}};"]
    return []
