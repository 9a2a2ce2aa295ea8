"""The token exchange on the descriptor socket (docs/formats/descriptors.md): a one-time token in, descriptors out; or a
descriptor in, and a token for it out."""

from __future__ import annotations

import array
import fcntl
import os
import socket
import struct

from trun.errors import HandleError, ProtocolError, QuotaError, TrunError, UnavailableError

_MAGIC = b"TFD1"
_DEPOSIT_MAGIC = b"TFU1"
_MAX_PER_MESSAGE = 64
_MAX_PER_EXCHANGE = 4096
_MAX_TEXT = 1024
_TIMEOUT_S = 5.0


def _protocol_error(what: str) -> ProtocolError:
    return ProtocolError(f"the descriptor socket's answer {what}", reason="PROTOCOL", code="DATA_LOSS")


def _receive(connection: socket.socket, count: int, into: list[int] | None) -> bytes:
    """Exactly ``count`` bytes; descriptors that come with them go to ``into``, or are closed."""
    received = b""
    control_bytes = socket.CMSG_SPACE(_MAX_PER_MESSAGE * array.array("i").itemsize)
    while len(received) < count:
        data, ancillary, flags, _ = connection.recvmsg(count - len(received), control_bytes, socket.MSG_CMSG_CLOEXEC)
        arrived = array.array("i")
        for level, kind, content in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                arrived.frombytes(content[: len(content) - len(content) % arrived.itemsize])
        if into is not None:
            into.extend(arrived)
        else:
            for descriptor in arrived:
                os.close(descriptor)
        if flags & socket.MSG_CTRUNC:
            raise TrunError(
                "this process cannot take more descriptors: raise RLIMIT_NOFILE",
                reason="QUOTA",
                code="RESOURCE_EXHAUSTED",
            )
        if not data:
            raise UnavailableError(
                "the descriptor socket was closed in the middle",
                reason="UNAVAILABLE",
                code="UNAVAILABLE",
            )
        received += data
    return received


def receive_descriptors(path: str, token: str) -> list[int]:
    """The descriptors that a token stands for, in the daemon's order; the caller closes them."""
    descriptors: list[int] = []
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(_TIMEOUT_S)
            connection.connect(path)
            encoded = token.encode()
            connection.sendall(_MAGIC + struct.pack("<I", len(encoded)) + encoded)
            magic, code, count, text_bytes = struct.unpack("<4sIII", _receive(connection, 16, None))
            if magic != _MAGIC:
                raise _protocol_error("is of another protocol")
            if code > 16 or count > _MAX_PER_EXCHANGE or text_bytes > _MAX_TEXT:
                raise _protocol_error("is out of its limits")
            text = _receive(connection, text_bytes, None).decode(errors="replace")
            if code != 0:
                raise HandleError(text, reason="HANDLE", code="NOT_FOUND")
            while len(descriptors) < count:
                before = len(descriptors)
                (announced,) = struct.unpack("<I", _receive(connection, 4, descriptors))
                if not 0 < announced <= _MAX_PER_MESSAGE or len(descriptors) - before != announced:
                    raise _protocol_error("holds another number of descriptors than it says")
            if len(descriptors) != count:
                raise _protocol_error("holds another number of descriptors than it says")
            return descriptors
    except OSError as error:
        _close_all(descriptors)
        if isinstance(error, TrunError):
            raise
        raise UnavailableError(
            f"the descriptor socket {path} does not answer: {error}",
            reason="UNAVAILABLE",
            code="UNAVAILABLE",
        ) from error
    except BaseException:
        _close_all(descriptors)
        raise


def deposit_descriptor(path: str, descriptor: int) -> str:
    """Gives the daemon a descriptor, which stays the caller's too; the token that stands for it in one call."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(_TIMEOUT_S)
            connection.connect(path)
            rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [descriptor]))
            connection.sendmsg([_DEPOSIT_MAGIC + struct.pack("<I", 1)], [rights])
            magic, code, text_bytes = struct.unpack("<4sII", _receive(connection, 12, None))
            if magic != _DEPOSIT_MAGIC:
                raise _protocol_error("is of another protocol")
            if code > 16 or text_bytes > _MAX_TEXT:
                raise _protocol_error("is out of its limits")
            text = _receive(connection, text_bytes, None).decode(errors="replace")
            if code != 0:
                raise QuotaError(text, reason="QUOTA", code="RESOURCE_EXHAUSTED")
            return text
    except OSError as error:
        if isinstance(error, TrunError):
            raise
        raise UnavailableError(
            f"the descriptor socket {path} does not answer: {error}",
            reason="UNAVAILABLE",
            code="UNAVAILABLE",
        ) from error


def _close_all(descriptors: list[int]) -> None:
    while descriptors:
        os.close(descriptors.pop())


def is_sealed(descriptor: int) -> bool:
    """Whether it is a memfd that nobody can shrink under a reader."""
    try:
        return bool(fcntl.fcntl(descriptor, fcntl.F_GET_SEALS) & fcntl.F_SEAL_SHRINK)
    except OSError:
        return False
