"""A compile worker driven without a daemon: for tests of the worker, and for the table of what compiles."""

from __future__ import annotations

import json
import os
import signal
import socket
import struct
import subprocess
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
TOOLCHAINS = Path(os.environ.get("TRUN_TOOLCHAINS_DIR", ROOT / "build/toolchains"))
WORKER = ROOT / "server/toolchain/worker"


class Refused(Exception):
    """An error frame."""

    def __init__(self, kind: str, message: str, details: dict[str, str]) -> None:
        super().__init__(f"{kind}: {message}")
        self.kind, self.message, self.details = kind, message, details


class Died(Exception):
    """The worker's process ended; the text is the end of what it wrote."""


class Result:
    """What a compile answered: artifacts by level, the last metadata, the passes as (header, text)."""

    def __init__(self) -> None:
        self.artifacts: dict[str, bytes] = {}
        self.metadata: dict[str, Any] = {}
        self.passes: list[tuple[dict[str, Any], str]] = []


class Worker:
    def __init__(self, version: str) -> None:
        self.version = version
        self._folder = tempfile.TemporaryDirectory()
        folder = self._folder.name
        self._log = tempfile.TemporaryFile()
        ours, theirs = socket.socketpair()
        environment = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "PYTHONHASHSEED": "0"}
        environment |= {key: folder for key in ("HOME", "TMPDIR", "TRITON_HOME")}
        environment["TRITON_CACHE_DIR"] = folder + "/cache"
        # The worker finds its channel at descriptor 3.
        command = 'exec 3<&"$0" "$@"'
        self.process = subprocess.Popen(
            ["/bin/bash", "-c", command, str(theirs.fileno())]
            + [str(TOOLCHAINS / version / "bin/python"), "-s", "-B", "-X", "utf8", str(WORKER)],
            env=environment,
            cwd=folder,
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self._log,
        )
        theirs.close()
        self._channel = ours
        hello, _ = self._receive()
        assert hello["op"] == "hello" and hello["triton"] == version, hello

    def compile(
        self, source: bytes | str, level: str, to: str, arch: int | str, deadline: float = 120, **request: Any
    ) -> Result:
        self._channel.settimeout(deadline)
        cuda = isinstance(arch, int)
        target = {"backend": "cuda" if cuda else "hip", "arch": arch, "warp_size": 32 if cuda else 64}
        header = {"op": "compile", "from": level, "to": to, "target": target, "options": {}, "metadata": None}
        header |= {"file": f"kernel.{level}", **request}
        self._send(header, source.encode() if isinstance(source, str) else source)
        result = Result()
        while True:
            answer, body = self._receive()
            if answer["op"] == "error":
                raise Refused(answer["kind"], answer["message"], answer["details"])
            if answer["op"] == "done":
                return result
            if answer["op"] == "pass":
                result.passes.append((answer, body.decode()))
                continue
            assert answer["op"] == "stage", answer
            result.artifacts[answer["level"]] = body
            result.metadata = json.loads(answer["metadata"])
            if answer["level"] != to:  # the last one is not answered
                self._send({"op": "continue"}, b"")

    def close(self) -> None:
        self._channel.close()
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self._folder.cleanup()

    def _send(self, header: dict[str, Any], body: bytes) -> None:
        text = json.dumps(header).encode()
        self._channel.sendall(struct.pack("<II", len(text), len(body)) + text + body)

    def _receive(self) -> tuple[dict[str, Any], bytes]:
        header_bytes, body_bytes = struct.unpack("<II", self._exactly(8))
        return json.loads(self._exactly(header_bytes)), self._exactly(body_bytes)

    def _exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            part = self._channel.recv(size - len(data))
            if not part:
                self.process.wait()
                self._log.seek(0)
                raise Died(self._log.read()[-4000:].decode("utf-8", "replace"))
            data += part
        return data
