"""What a GPU answered to random programs, as checksums: of each thread's line, of each register over all threads, and
of what stands before the lines. Enough to say which threads and registers differ, in a fiftieth of the room."""

from __future__ import annotations

import array
import json
import lzma
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path

import answers
from fuzz_programs import FuzzProgram
from fuzz_steps import ROW

PIECE = 64


@dataclass
class Recorded:
    """`ptx`: of the program's text, so that another program is not taken for it."""

    seed: int
    ptx: str
    head: list[int]
    threads: list[int]
    words: list[int]


def recorded(program: FuzzProgram, answer: bytes) -> Recorded:
    head, lines = answer[: program.head_bytes], answer[program.head_bytes :]
    words = array.array("I", lines)
    return Recorded(
        program.seed,
        answers.digest(program.ptx),
        [zlib.crc32(head[i : i + PIECE]) for i in range(0, len(head), PIECE)],
        [zlib.crc32(lines[i : i + ROW]) for i in range(0, len(lines), ROW)],
        [zlib.crc32(words[i :: ROW // 4].tobytes()) for i in range(ROW // 4)],
    )


def difference(mine: Recorded, theirs: Recorded) -> str:
    """Empty, or where the answers part."""
    parts = []
    for name in ("head", "threads", "words"):
        pairs = zip(getattr(mine, name), getattr(theirs, name), strict=True)
        wrong = [i for i, (a, b) in enumerate(pairs) if a != b]
        if wrong:
            parts.append(f"{name} {', '.join(map(str, wrong[:8]))}{' …' if len(wrong) > 8 else ''}")
    return "; ".join(parts)


def write(path: Path, device: dict[str, object], found: list[Recorded]) -> None:
    programs = [asdict(one) for one in sorted(found, key=lambda one: one.seed)]
    path.write_bytes(lzma.compress(json.dumps({**device, "programs": programs}).encode(), preset=9))


def read(path: Path) -> list[Recorded]:
    return [Recorded(**one) for one in json.loads(lzma.decompress(path.read_bytes()))["programs"]]
