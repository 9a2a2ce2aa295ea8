"""The passes of a compile, as a kernel that was loaded with passes=True has them."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass

from trun.errors import CorruptError

_MAGIC = b"TRUNPASS"


@dataclass(frozen=True)
class Pass:
    """One pass: what it is called ("ttgir/coalesce"), whether it changed the module, and the module after it."""

    name: str
    changed: bool
    seconds: float
    ir: str


def parse_passes(record: bytes) -> list[Pass]:
    """A record's passes (docs/formats/passes.md). Raises CorruptError."""
    if not record.startswith(_MAGIC):
        raise _corrupt("it does not begin as one")
    passes: list[Pass] = []
    ir = ""
    at = len(_MAGIC)
    while at < len(record):
        try:
            header_bytes, ir_bytes = struct.unpack_from("<II", record, at)
            body = at + 8 + header_bytes
            header = json.loads(record[at + 8 : body])
            name, changed, ns = str(header["name"]), bool(header["changed"]), int(header["ns"])
        except (struct.error, ValueError, KeyError, TypeError):
            raise _corrupt(f"byte {at} begins no pass") from None
        if body + ir_bytes > len(record):
            raise _corrupt("it ends in the middle of a pass")
        if changed:
            ir = record[body : body + ir_bytes].decode("utf-8", "replace")
        passes.append(Pass(name, changed, ns / 1e9, ir))
        at = body + ir_bytes
    return passes


def _corrupt(what: str) -> CorruptError:
    return CorruptError(f"the record of the passes is damaged: {what}", reason="CORRUPT", code="DATA_LOSS")
