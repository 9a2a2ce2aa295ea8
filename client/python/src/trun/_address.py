"""Where this user's daemon listens: the rules of common/rpc/runtime_directory.h."""

from __future__ import annotations

import contextlib
import os
import stat

from trun.errors import ArgumentError, NotPermittedError

MAX_SOCKET_PATH_BYTES = 107


def parse_address(address: str) -> str:
    """ "unix:/path", "unix:///path" or "/path" → the path."""
    path = address
    for prefix in ("unix://", "unix:"):
        if path.startswith(prefix):
            path = path[len(prefix) :]
            break
    if not path.startswith("/"):
        raise ArgumentError(
            f"'{address}' is not the address of a daemon; write unix:/path/of/socket",
            reason="ARGUMENT",
            code="INVALID_ARGUMENT",
        )
    if len(os.fsencode(path)) > MAX_SOCKET_PATH_BYTES:
        raise ArgumentError(
            f"the socket path '{path}' is longer than {MAX_SOCKET_PATH_BYTES} bytes",
            reason="ARGUMENT",
            code="INVALID_ARGUMENT",
        )
    return path


def _private_directory(path: str) -> str:
    """Makes ``path`` as a folder of this user, mode 0700, or checks that it is one, so that nobody else owns it."""
    with contextlib.suppress(FileExistsError):
        os.mkdir(path, 0o700)
    info = os.lstat(path)
    wrong = ""
    if not stat.S_ISDIR(info.st_mode):
        wrong = "is not a folder"
    elif info.st_uid != os.geteuid():
        wrong = "belongs to another user"
    elif stat.S_IMODE(info.st_mode) & 0o777 != 0o700:
        wrong = "does not have mode 0700"
    if wrong:
        raise NotPermittedError(
            f"the runtime folder {path} {wrong}: nothing there is trusted",
            reason="NOT_PERMITTED",
            code="FAILED_PRECONDITION",
        )
    return path


def runtime_directory() -> str:
    base = os.environ.get("XDG_RUNTIME_DIR", "")
    if base.startswith("/"):
        try:
            info = os.stat(base)
        except OSError:
            info = None
        if info is not None and stat.S_ISDIR(info.st_mode) and info.st_uid == os.geteuid():
            return _private_directory(os.path.join(base, "trun"))
    return _private_directory(f"/tmp/trun-{os.geteuid()}")


def daemon_socket_path() -> tuple[str, bool]:
    """The socket, and whether TRUN_ADDRESS named it (then no daemon is started there)."""
    address = os.environ.get("TRUN_ADDRESS", "")
    if address:
        return parse_address(address), True
    return parse_address(os.path.join(runtime_directory(), "trund.sock")), False
