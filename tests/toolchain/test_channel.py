"""The worker's end of its channel."""

from __future__ import annotations

import os
import socket
import struct
import sys
import threading

import pytest
from worker import WORKER

sys.path.insert(0, str(WORKER))
from trun_worker.channel import Channel


def receive(end: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size and (part := end.recv(size - len(data))):
        data += part
    return bytes(data)


@pytest.mark.parametrize("header_bytes", [10, 1 << 20], ids=["a short header", "a header larger than the socket takes"])
@pytest.mark.parametrize("body_bytes", [0, 10, 5 << 20], ids=["no body", "a short body", "a long body"])
def test_a_frame_arrives_whole(header_bytes: int, body_bytes: int) -> None:
    ours, theirs = socket.socketpair()
    body = os.urandom(body_bytes)
    received: list[bytes] = []

    def read() -> None:
        sizes = struct.unpack("<II", receive(ours, 8))
        received.extend(receive(ours, size) for size in sizes)

    reader = threading.Thread(target=read)
    reader.start()
    Channel(theirs.detach()).send({"a": "x" * header_bytes}, body)
    reader.join(30)
    assert received == [b'{"a":"' + b"x" * header_bytes + b'"}', body]


def test_a_parent_that_has_gone_is_the_end_of_the_file() -> None:
    ours, theirs = socket.socketpair()
    channel = Channel(theirs.detach())
    ours.sendall(struct.pack("<II", 100, 0) + b"{")
    ours.close()
    with pytest.raises(EOFError):
        channel.receive()
