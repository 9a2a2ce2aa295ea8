"""A compile worker without Triton that misbehaves as its argument says: for the tests of the pool.

The behaviour is the IR of each request: "ok", "crash", "hang", ... (see `answer`). The first argument, if given, is
what it does instead of greeting.
"""

from __future__ import annotations

import json
import os
import socket
import struct
import sys
import time
from typing import Any

channel = socket.socket(fileno=3)


def send(header: Any, body: bytes = b"") -> None:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    channel.sendall(struct.pack("<II", len(text), len(body)) + text + body)


def exactly(size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = channel.recv(size - len(data))
        if not part:
            sys.exit(0)
        data += part
    return data


def receive() -> tuple[dict[str, Any], bytes]:
    header_bytes, body_bytes = struct.unpack("<II", exactly(8))
    return json.loads(exactly(header_bytes)), exactly(body_bytes)


def stage(level: str = "ttgir", **changes: Any) -> dict[str, Any]:
    return {"op": "stage", "level": level, "ns": 1000, "metadata": '{"b": 1, "a": 2}', **changes}


def die(message: str) -> None:
    os.write(2, message.encode("latin-1"))
    os.abort()


def answer(behaviour: str) -> None:
    if behaviour == "ok":
        send(stage(), f"pid {os.getpid()}".encode())
        send({"op": "done"})
    elif behaviour == "warn":
        os.write(2, b"warning: this loop is odd\n")
        send(stage(), f"pid {os.getpid()}".encode())
        send({"op": "done"})
    elif behaviour == "crash":
        die("LLVM ERROR: Cannot select: the dark side\nStack dump:\n0. \x01\xff\n")
    elif behaviour == "crash-late":
        send(stage(), b"x")
        die("LLVM ERROR: after the stage\n")
    elif behaviour == "bad-alloc":
        die("terminate called after throwing an instance of 'std::bad_alloc'\n")
    elif behaviour == "exit":
        os.write(2, b"error: I am leaving\n")
        os._exit(7)
    elif behaviour == "hang":
        time.sleep(1000)
    elif behaviour == "balloon":
        hoard = []
        while True:
            hoard.append(bytearray(os.urandom(1)) * (8 << 20))
            time.sleep(0.001)
    elif behaviour == "talkative-balloon":
        hoard = []
        for index in range(10000):
            hoard.append(bytearray(os.urandom(1)) * (1 << 20))
            send({"op": "pass", "stage": "ttgir", "name": f"p{index}", "index": index, "changed": False, "ns": 1})
            time.sleep(0.001)
    elif behaviour == "flood":
        while True:
            os.write(2, b"x" * (1 << 20))
    elif behaviour == "drip":
        channel.sendall(struct.pack("<II", 100, 0) + b"{")
        time.sleep(1000)
    elif behaviour == "garbage":
        channel.sendall(b"\xff" * 64)
    elif behaviour == "oversized":
        channel.sendall(struct.pack("<II", 10, (1 << 32) - 1))
    elif behaviour == "not-json":
        send(b"{]")
    elif behaviour == "deep-json":
        send(b"[" * 100000 + b"]" * 100000)
    elif behaviour == "array":
        send([1, 2])
    elif behaviour == "close":
        channel.close()
        time.sleep(1000)
    elif behaviour == "unknown-op":
        send({"op": "sing"})
    elif behaviour == "done-at-once":
        send({"op": "done"})
    elif behaviour == "wrong-level":
        send(stage("cubin"), b"x")
    elif behaviour == "same-level-again":
        send(stage("ttir"), b"x")
    elif behaviour == "no-such-level":
        send(stage("sass"), b"x")
    elif behaviour == "empty-body":
        send(stage())
    elif behaviour == "negative-time":
        send(stage(ns=-1), b"x")
    elif behaviour == "bad-metadata":
        send(stage(metadata="[1"), b"x")
    elif behaviour == "metadata-of-wrong-type":
        send(stage(metadata={"a": 1}), b"x")
    elif behaviour == "unknown-error":
        send({"op": "error", "kind": "KAPUTT", "message": "\x1b[31mred\xff"})
    elif behaviour == "error":
        send({"op": "error", "kind": "INVALID_IR", "message": "k:3: no", "details": {"line": "3", "x": 4}})
    elif behaviour == "last-words":
        # The next request is not read to its end.
        send(stage(), b"x")
        send({"op": "done"})
        channel.recv(1, socket.MSG_PEEK)
        send({"op": "error", "kind": "INVALID_IR", "message": "these are its last words"})
        sys.exit(0)
    elif behaviour == "leak":
        globals()["hoard"] = bytearray(b"x") * (96 << 20)
        answer("ok")


greeting = sys.argv[1] if len(sys.argv) > 1 else ""
if greeting == "die":
    os.write(2, b"ImportError: no libtriton\n")
    sys.exit(1)
elif greeting == "broken":
    send({"op": "error", "kind": "TOOLCHAIN_BROKEN", "message": "import triton: no"})
elif greeting == "old":
    send({"op": "hello", "protocol": 0, "triton": "1.0"})
elif greeting == "silent":
    time.sleep(1000)
else:
    send({"op": "hello", "protocol": 1, "triton": "9.9.9", "python": "3"})
while True:
    request, body = receive()
    if request["op"] == "warm" and greeting == "ends-warm":
        send({"op": "error", "kind": "WORKER_LOST", "message": "", "details": {}, "ends": True})
        sys.exit(0)
    elif request["op"] == "warm":
        send({"op": "done"})
    elif request["op"] == "options":
        send({"op": "options", "options": [{"name": "num_warps", "type": "int", "default": " 4 "}]})
    else:
        answer(body.decode())
