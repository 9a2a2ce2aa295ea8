"""Children of a worker (ptxas) that somebody else ended: that says nothing about the kernel."""

from __future__ import annotations

import signal
import subprocess
from typing import Any

_OUTSIDE = {signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP}

# What ended them, since the list was last cleared.
ended_from_outside: list[str] = []


class WatchedPopen(subprocess.Popen):  # type: ignore[type-arg]
    """Notes such an end, whatever Triton makes of it: it takes a ptxas that dies for one that is missing."""

    _code: int | None = None

    @property
    def returncode(self) -> int | None:  # type: ignore[override]
        return self._code

    @returncode.setter
    def returncode(self, code: Any) -> None:
        # A shell between says 128 + the signal.
        number = -code if code is not None and code < 0 else (code or 0) - 128
        if self._code is None and number in _OUTSIDE:
            ended_from_outside.append(signal.Signals(number).name)
        self._code = code


def watch() -> None:
    """From now on; every `subprocess` call of this process is watched."""
    subprocess.Popen = WatchedPopen  # type: ignore[misc]
