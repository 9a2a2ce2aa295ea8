"""Places and reasons out of what MLIR prints."""

from __future__ import annotations

import re


def first_diagnostic(log: str, own_file: str) -> tuple[str, int | None, int | None, str | None]:
    """(text, line, column, source location) of the first error in a log of MLIR; the line is one of the IR file."""
    for line in log.splitlines():
        before, mark, text = line.partition("error: ")
        if not mark:
            continue
        places = re.findall(r'"([^"]*)":(\d+):(\d+)', before) or re.findall(r"^([^:]*):(\d+):(\d+):", before)
        for file, row, column in places:
            if file == own_file:
                return text, int(row), int(column), None
        if places:
            file, row, column = places[0]
            return text, None, None, f"{file}:{row}:{column}"
        return text, None, None, None
    return "", None, None, None


def place(file: str, line: int | None, column: int | None) -> str:
    return ":".join([file] + [str(n) for n in (line, column) if n is not None])
