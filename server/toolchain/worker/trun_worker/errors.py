"""What a request can be answered with instead of a result."""

from __future__ import annotations

from typing import Any


class CompileError(Exception):
    """Something to tell the client: `kind` is a name of trun.v1.ErrorReason."""

    def __init__(self, kind: str, message: str, **details: Any) -> None:
        super().__init__(message)
        self.kind = kind
        self.details = {key: str(value) for key, value in details.items() if value is not None}
