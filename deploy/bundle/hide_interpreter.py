#!/usr/bin/env python3
"""Hides PT_INTERP of a 64-bit ELF program from the kernel, which then starts it at its entry point (entry.cc).

hide_interpreter.py PROGRAM
"""

from __future__ import annotations

import struct
import sys
from pathlib import Path

PT_INTERP, HIDDEN = 3, 0x6E757274  # a type of no meaning, from the range for systems


def main(path: Path) -> None:
    image = bytearray(path.read_bytes())
    if image[:5] != b"\x7fELF\x02":
        sys.exit(f"hide_interpreter.py: {path} is not a 64-bit ELF file")
    (table,) = struct.unpack_from("<Q", image, 32)
    size, count = struct.unpack_from("<HH", image, 54)
    for at in range(table, table + size * count, size):
        if struct.unpack_from("<I", image, at) == (PT_INTERP,):
            struct.pack_into("<I", image, at, HIDDEN)
            path.write_bytes(image)
            return
    sys.exit(f"hide_interpreter.py: {path} has no PT_INTERP")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
