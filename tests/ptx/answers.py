"""The file of recorded answers: a line of JSON with device, driver, and name, digest of the PTX and length of each
program, then all answers one after the other; the whole compressed by xz."""

from __future__ import annotations

import hashlib
import json
import lzma
from dataclasses import dataclass
from pathlib import Path

from memory_forms import Program


@dataclass
class Recorded:
    """`answers`: name → digest of the PTX, what the GPU wrote."""

    device: str
    driver: int
    answers: dict[str, tuple[str, bytes]]


def digest(ptx: str) -> str:
    return hashlib.sha256(ptx.encode()).hexdigest()[:16]


def write(path: str, device: str, driver: int, recorded: list[tuple[Program, bytes]]) -> None:
    table = [[p.name, digest(p.ptx), len(answer)] for p, answer in recorded]
    head = json.dumps({"device": device, "driver": driver, "programs": table}).encode() + b"\n"
    Path(path).write_bytes(lzma.compress(head + b"".join(answer for _, answer in recorded), preset=9))


def read(path: Path) -> Recorded:
    content = lzma.decompress(path.read_bytes())
    head, at = json.loads(content[: content.index(b"\n")]), content.index(b"\n") + 1
    found = {}
    for name, text, size in head["programs"]:
        found[name] = (text, content[at : at + size])
        at += size
    return Recorded(head["device"], head["driver"], found)
