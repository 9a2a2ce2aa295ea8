"""Starting a private daemon, the same way as the C++ client: by turns, under a flock beside the socket."""

from __future__ import annotations

import fcntl
import os
import pathlib
import select
import shutil
import socket
import subprocess
import sys
import time

from trun.errors import UnavailableError

START_TIMEOUT_S = 20.0
_LOG_LINES = 12


def _unavailable(message: str, code: str = "UNAVAILABLE") -> UnavailableError:
    return UnavailableError(message, reason="UNAVAILABLE", code=code)


def daemon_answers(socket_path: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(5)
        try:
            probe.connect(socket_path)
        except OSError:
            return False
    return True


def _is_program(path: str) -> bool:
    return os.path.isfile(path) and os.access(path, os.X_OK)


def find_trund() -> str:
    """TRUN_TRUND, beside this package or its Python, PATH, the build folder of a checkout; the first that is there."""
    named = os.environ.get("TRUN_TRUND", "")
    if named:
        if _is_program(named):
            return named
        raise _unavailable(f"TRUN_TRUND is '{named}', which is not a program")
    package = pathlib.Path(__file__).resolve().parent
    places = [
        package / "trund",
        package / "bin" / "trund",
        pathlib.Path(sys.executable).parent / "trund",
    ]
    in_path = shutil.which("trund")
    if in_path:
        places.append(pathlib.Path(in_path))
    for parent in package.parents:
        if (parent / "proto" / "trun" / "v1").is_dir():
            places += [parent / "build" / kind / "bin" / "trund" for kind in ("release", "dev")]
    for place in places:
        if _is_program(str(place)):
            return str(place)
    raise _unavailable(
        "no daemon answers and trund was not found beside this package, in PATH or in a build folder: set TRUN_TRUND "
        "to its path, or TRUN_ADDRESS to the socket of a running one"
    )


def _log_tail(path: str, start: int) -> str:
    try:
        with open(path, "rb") as log:
            size = log.seek(0, os.SEEK_END)
            log.seek(max(start, size - (64 << 10)))
            lines = log.read(64 << 10).decode(errors="replace").splitlines()
    except OSError:
        return ""
    return "\n".join(lines[-_LOG_LINES:])


def ensure_daemon(socket_path: str, timeout_s: float = START_TIMEOUT_S) -> bool:
    """True: started by this call; False: one answered already. Many processes at once start one."""
    if daemon_answers(socket_path):
        return False
    trund = find_trund()
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    lock = os.open(f"{socket_path}.start", flags, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if daemon_answers(socket_path):
            return False
        _start(trund, socket_path, timeout_s)
        return True
    finally:
        os.close(lock)


def _start(trund: str, socket_path: str, timeout_s: float) -> None:
    log_path = os.path.join(os.path.dirname(socket_path), "trund.log")
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
    log = os.open(log_path, flags, 0o600)
    log_start = os.lseek(log, 0, os.SEEK_END)
    ready, ready_writer = os.pipe()
    try:
        command = [
            trund,
            "--socket",
            socket_path,
            "--log-file",
            log_path,
            "--ready-fd",
            str(ready_writer),
            "--private",
        ]
        daemon = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=[ready_writer],
            start_new_session=True,
            cwd="/",
        )
    except OSError as error:
        os.close(ready)
        raise _unavailable(f"cannot start {trund}: {error}") from error
    finally:
        os.close(ready_writer)
        os.close(log)
    try:
        answer = _wait_ready(ready, time.monotonic() + timeout_s)
    except BaseException:
        daemon.kill()
        daemon.wait()
        raise
    finally:
        os.close(ready)
    if answer == b"":  # the pipe's end: it is ending
        try:
            status = f"exit status {daemon.wait(5)}"
        except subprocess.TimeoutExpired:
            daemon.kill()
            status = f"exit status {daemon.wait()}"
        raise _unavailable(f"the daemon {trund} did not start ({status}); {_log_words(log_path, log_start)}")
    if answer is None:
        daemon.kill()
        daemon.wait()
        raise _unavailable(
            f"the daemon {trund} was not ready after {timeout_s:g} s and was ended; {_log_words(log_path, log_start)}",
            code="DEADLINE_EXCEEDED",
        )
    _STARTED.append(daemon)


# A daemon outlives the client that started it; kept so that it is reaped if it ends first and nothing warns of it.
_STARTED: list[subprocess.Popen[bytes]] = []


def _log_words(path: str, start: int) -> str:
    tail = _log_tail(path, start)
    return f"the end of its log {path}:\n{tail}" if tail else f"its log {path} is empty"


def _wait_ready(fd: int, deadline: float) -> bytes | None:
    """The byte that says ready, b"" at the pipe's end, None when the deadline passes."""
    while True:
        left = deadline - time.monotonic()
        if left <= 0:
            return None
        if select.select([fd], [], [], left)[0]:
            return os.read(fd, 1)
