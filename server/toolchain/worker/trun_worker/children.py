"""Children of a worker (ptxas) that somebody else ended: that says nothing about the kernel.

Triton takes a ptxas that is killed for one that is missing, and remembers it: such a worker is not used again.
"""

from __future__ import annotations

import os
import signal
import subprocess
from typing import Any

_OUTSIDE = {signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP}

_ended_from_outside: list[int] = []


class WatchedPopen(subprocess.Popen):  # type: ignore[type-arg]
    """Notes such an end, whatever its caller makes of it."""

    _code: int | None = None

    @property
    def returncode(self) -> int | None:  # type: ignore[override]
        return self._code

    @returncode.setter
    def returncode(self, code: Any) -> None:
        # A shell between says 128 + the signal.
        number = -code if code is not None and code < 0 else (code or 0) - 128
        if self._code is None and number in _OUTSIDE:
            _ended_from_outside.append(number)
        self._code = code


def watch() -> None:
    """From now on; every `subprocess` call of this process is watched."""
    subprocess.Popen = WatchedPopen  # type: ignore[misc]


def end_with_them() -> None:
    """Ends this worker as its child was ended, if one was: trund then says WORKER_LOST, and tries again if it can."""
    if _ended_from_outside:
        os.kill(os.getpid(), signal.SIGKILL)
