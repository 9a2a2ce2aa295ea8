"""Replays recorded programs on the emulator and says how the answers differ."""

from __future__ import annotations

import math
import struct
import tempfile
from pathlib import Path
from typing import Any

import memory_forms
from memory_forms import Program

FORMATS = {"f32": "f", "f64": "d", "f16": "e"}


def run(runner: Any, program: Program) -> bytes | str:
    """What the emulator wrote, or why it did not."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        ptx = Path(folder) / "program.ptx"
        ptx.write_text(program.ptx)
        buffers, parameters = [], []
        first = memory_forms.data(program.start) if program.start else b""
        for i, content in enumerate(
            [*map(memory_forms.data, program.inputs), first[: program.answer_bytes].ljust(program.answer_bytes, b"\0")]
        ):
            path = Path(folder) / str(i)
            path.write_bytes(content)
            buffers.append({"file": str(path), "bytes": len(content)})
            parameters.append({"buffer": i})
        answer = runner.ask(
            {
                "op": "run",
                "arch": 90,
                "ptx": str(ptx),
                "grid": [int(program.check.get("grid", 1)), 1, 1],
                "block": [program.threads, 1, 1],
                "cluster": [int(program.check.get("grid", 1)), 1, 1],
                "buffers": buffers,
                "parameters": parameters,
                "seconds": 30,
            }
        )
        if "error" in answer:
            return f"{answer['error']} {answer.get('fault', '')} line {answer.get('line', '')}"
        return Path(buffers[-1]["file"]).read_bytes()


def differences(program: Program, mine: bytes, theirs: bytes) -> str:
    """Empty, or where the answers part."""
    if mine == theirs:
        return ""
    if program.element:
        letter = FORMATS[program.element]
        size = struct.calcsize(letter)
        pairs = zip(
            struct.unpack(f"<{len(mine) // size}{letter}", mine),
            struct.unpack(f"<{len(theirs) // size}{letter}", theirs),
            strict=True,
        )
        wrong = [
            (i, a, b)
            for i, (a, b) in enumerate(pairs)
            if not (
                a == b
                or (math.isnan(a) and math.isnan(b))
                or abs(a - b) <= program.absolute + program.relative * abs(b)
            )
        ]
        return f"{len(wrong)} of {len(mine) // size} numbers are too far off, first {wrong[0]}" if wrong else ""
    at = [i for i in range(0, len(mine), 4) if mine[i : i + 4] != theirs[i : i + 4]]
    return (
        f"{len(at)} of {len(mine) // 4} words differ, first at byte {at[0]}: {mine[at[0] : at[0] + 4][::-1].hex()}, "
        f"the GPU {theirs[at[0] : at[0] + 4][::-1].hex()}"
    )
