"""Frames on descriptor 3 (docs/formats/frames.md), and the log on descriptor 2."""

from __future__ import annotations

import json
import os
import socket
import struct
import sys
from typing import Any

PROTOCOL = 1
CHANNEL = 3  # the descriptor
MAX_HEADER = 4 << 20
MAX_BODY = 256 << 20
LOG_BYTES = 1 << 20


def frame_text(header: dict[str, Any]) -> bytes:
    """A header as UTF-8, whatever a message quotes: half a surrogate pair, which is no character, becomes "?"."""
    return json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "replace")


class Channel:
    """Frames: header length and body length (u32, little endian), the header (JSON), the body."""

    def __init__(self, descriptor: int) -> None:
        os.set_inheritable(descriptor, False)  # ptxas must not hold it open
        self._socket = socket.socket(fileno=descriptor)

    def send(self, header: dict[str, Any], body: bytes = b"") -> None:
        text = frame_text(header)
        frame = struct.pack("<II", len(text), len(body)) + text
        # In one piece: the parent, once woken, finds all of it.
        sent = self._socket.sendmsg([frame, body])
        if sent < len(frame):
            self._socket.sendall(frame[sent:])
            sent = len(frame)
        if sent < len(frame) + len(body):
            self._socket.sendall(memoryview(body)[sent - len(frame) :])

    def receive(self) -> tuple[dict[str, Any], bytes]:
        """Raises EOFError when the parent has gone."""
        header_bytes, body_bytes = struct.unpack("<II", self._exactly(8))
        if header_bytes > MAX_HEADER or body_bytes > MAX_BODY:
            raise EOFError("not a frame")
        header = json.loads(self._exactly(header_bytes))
        return header, self._exactly(body_bytes)

    def _exactly(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            part = self._socket.recv(min(size - len(data), 1 << 20))
            if not part:
                raise EOFError("the parent has gone")
            data += part
        return bytes(data)


class Log:
    """What was written to descriptor 2 during this request."""

    def __init__(self) -> None:
        try:
            os.ftruncate(2, 0)
            os.lseek(2, 0, os.SEEK_SET)
            self._is_file = True
        except OSError:
            self._is_file = False

    def text(self) -> str:
        if not self._is_file:
            return ""
        sys.stderr.flush()
        return os.pread(2, LOG_BYTES, 0).decode("utf-8", "replace")
