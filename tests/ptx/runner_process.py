"""A process that runs PTX on request, one JSON object a line: ptx_runner (the emulator) or gpu_runner.py. One that says
"ends" in an answer gives no other."""

from __future__ import annotations

import json
import os
import select
import subprocess
import time
from typing import Any

NO_ANSWER = "gave no answer in"


class RunnerLost(RuntimeError):
    """The process ended, or did not answer in time; the next request gets a new one."""


class RunnerProcess:
    """Starts `command` when it is first needed, and again after it was lost."""

    def __init__(self, command: list[str], seconds: float = 20) -> None:
        self.command, self.seconds = command, seconds
        self.process: subprocess.Popen[bytes] | None = None
        self.rest = b""

    def send(self, request: dict[str, Any]) -> None:
        if self.process is None:
            self.process = subprocess.Popen(self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            self.rest = b""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(request).encode() + b"\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # receive() says how it ended

    def receive(self) -> dict[str, Any]:
        assert self.process is not None and self.process.stdout is not None
        descriptor, end = self.process.stdout.fileno(), time.monotonic() + self.seconds
        while b"\n" not in self.rest:
            ready, _, _ = select.select([descriptor], [], [], max(0.0, end - time.monotonic()))
            piece = os.read(descriptor, 1 << 20) if ready else b""
            if not piece:
                what = "ended" if ready else f"{NO_ANSWER} {self.seconds:.0f} s and was killed"
                raise RunnerLost(f"{os.path.basename(self.command[-1])} {what} ({self.stop()})")
            self.rest += piece
        line, _, self.rest = self.rest.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        if answer.get("ends"):
            self.stop()
        return answer

    def stop(self) -> int:
        """Its exit status; negative: the signal that ended it."""
        if self.process is None:
            return 0
        process, self.process = self.process, None
        assert process.stdin is not None and process.stdout is not None
        try:
            process.stdin.close()
        except BrokenPipeError:
            pass
        try:
            code = process.wait(2)
        except subprocess.TimeoutExpired:
            process.kill()
            code = process.wait()
        process.stdout.close()
        return code
