"""What a front-end child gives up before it runs a tenant's Python: files, sockets, processes, signals.

Two layers of the kernel, driven through ctypes: Landlock (only Triton's and the standard library's files can be opened,
for reading) and a seccomp filter that allows the system calls which lowering needs and answers EPERM to all others.
seccomp is required; where Landlock is missing, the filter refuses every open instead. Never undone: the child ends.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import resource
import signal
import struct
from collections.abc import Iterable

LAYERS = ("landlock", "seccomp")

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long

# linux/prctl.h, linux/seccomp.h, linux/audit.h, linux/landlock.h
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 1, 4, 22, 38
_SECCOMP_MODE_FILTER = 2
_KILL, _ERRNO, _ALLOW = 0x80000000, 0x00050000, 0x7FFF0000
_AUDIT_ARCH_X86_64 = 0xC000003E
_LANDLOCK_CREATE, _LANDLOCK_ADD, _LANDLOCK_RESTRICT = 444, 445, 446
_LANDLOCK_RULE_PATH_BENEATH = 1
_READ_FILE, _READ_DIR = 1 << 2, 1 << 3
# How many rights each ABI version knows of.
_FS_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}

# linux/filter.h
_LOAD, _JEQ, _JGE, _JSET, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER, _ARCH = 0, 4


def _argument(index: int, high: bool = False) -> int:
    return 16 + 8 * index + (4 if high else 0)


# arch/x86/entry/syscalls/syscall_64.tbl: what reading files, memory, time, threads of this process and ending need.
_ALLOWED_X86_64 = (
    *(0, 1, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 17, 18, 19, 20, 21),
    *(23, 24, 25, 27, 28, 32, 33, 35, 39, 60, 63, 77, 79, 89, 96, 97, 98, 99, 100, 102, 104, 107, 108, 110),
    *(131, 137, 138, 158, 186, 201, 202, 204, 217, 219, 221, 228, 229, 230, 231),
    *(262, 267, 269, 271, 273, 292, 318, 324, 332, 334, 439),
)
_IOCTL, _CLONE, _FCNTL, _OPEN, _OPENAT, _TGKILL, _PRLIMIT64, _CLONE3 = 16, 56, 72, 2, 257, 234, 302, 435
_CLONE_THREAD = 0x10000
_FCNTL_COMMANDS = (0, 1, 2, 3, 1030)  # duplicate, and flags of descriptor and file
# Anything but reading: O_ACCMODE, O_CREAT, O_TRUNC, O_APPEND, O_TMPFILE.
_WRITING = os.O_ACCMODE | os.O_CREAT | os.O_TRUNC | os.O_APPEND | 0o20000000


class Unconfinable(Exception):
    """This kernel does not offer what confines a child."""


def _instruction(code: int, value: int, yes: int = 0, no: int = 0) -> bytes:
    return struct.pack("=HBBI", code, yes, no, value)


def _case(number: int, body: list[bytes]) -> list[bytes]:
    """`body`, which returns on every path, for one system call."""
    return [_instruction(_JEQ, number, 0, len(body)), *body]


def _filter(may_open: bool) -> list[bytes]:
    allow, refuse = _instruction(_RETURN, _ALLOW), _instruction(_RETURN, _ERRNO | errno.EPERM)
    program = [
        _instruction(_LOAD, _ARCH),
        _instruction(_JEQ, _AUDIT_ARCH_X86_64, 1, 0),
        _instruction(_RETURN, _KILL),
        _instruction(_LOAD, _NUMBER),
        _instruction(_JGE, 0x40000000, 0, 1),  # the x32 interface: the same calls by other numbers
        refuse,
    ]
    for number in _ALLOWED_X86_64:
        program += _case(number, [allow])
    program += _case(_IOCTL, [_instruction(_RETURN, _ERRNO | errno.ENOTTY)])
    program += _case(_CLONE3, [_instruction(_RETURN, _ERRNO | errno.ENOSYS)])  # libc then uses clone
    threads = [_instruction(_LOAD, _argument(0)), _instruction(_JSET, _CLONE_THREAD, 0, 1), allow, refuse]
    program += _case(_CLONE, threads)
    for number, flags in ((_OPEN, 1), (_OPENAT, 2)):
        reading = [_instruction(_LOAD, _argument(flags)), _instruction(_JSET, _WRITING, 1, 0), allow, refuse]
        program += _case(number, reading if may_open else [refuse])
    commands = [_instruction(_LOAD, _argument(1))]
    for command in _FCNTL_COMMANDS:
        commands += _case(command, [allow])
    program += _case(_FCNTL, [*commands, refuse])
    # abort() signals its own process.
    own = [_instruction(_LOAD, _argument(0)), _instruction(_JEQ, os.getpid(), 0, 1), allow, refuse]
    program += _case(_TGKILL, own)
    asking = [
        _instruction(_LOAD, _argument(2)),
        _instruction(_JEQ, 0, 0, 3),
        _instruction(_LOAD, _argument(2, high=True)),
        _instruction(_JEQ, 0, 0, 1),
        allow,
        refuse,
    ]
    program += _case(_PRLIMIT64, asking)
    return [*program, refuse]


def _prctl(option: int, *arguments: int | ctypes.c_void_p) -> None:
    padded = [*arguments, *([0] * (4 - len(arguments)))]
    values = [a if isinstance(a, ctypes.c_void_p) else ctypes.c_ulong(a) for a in padded]
    if _libc.prctl(option, *values) != 0:
        raise Unconfinable(f"prctl {option}: {os.strerror(ctypes.get_errno())}")


def landlock_version() -> int:
    """0 where the kernel has no Landlock."""
    return max(_libc.syscall(_LANDLOCK_CREATE, None, ctypes.c_size_t(0), ctypes.c_uint(1)), 0)


def _restrict_files(version: int, readable: Iterable[str]) -> None:
    rights = (1 << _FS_RIGHTS.get(version, 16)) - 1
    attributes = struct.pack("=QQQ", rights, 3, 3)  # and TCP, and signals and abstract sockets to the outside
    size = 8 if version < 4 else 16 if version < 6 else 24
    ruleset = _libc.syscall(_LANDLOCK_CREATE, ctypes.c_char_p(attributes), ctypes.c_size_t(size), ctypes.c_uint(0))
    if ruleset < 0:
        raise Unconfinable(f"landlock_create_ruleset: {os.strerror(ctypes.get_errno())}")
    for path in readable:
        folder = os.open(path, os.O_PATH | os.O_CLOEXEC)
        rule = ctypes.c_char_p(struct.pack("=Qi", _READ_FILE | _READ_DIR, folder))
        added = _libc.syscall(_LANDLOCK_ADD, ctypes.c_int(ruleset), _LANDLOCK_RULE_PATH_BENEATH, rule, ctypes.c_uint(0))
        os.close(folder)
        if added != 0:
            raise Unconfinable(f"landlock_add_rule for {path}: {os.strerror(ctypes.get_errno())}")
    if _libc.syscall(_LANDLOCK_RESTRICT, ctypes.c_int(ruleset), ctypes.c_uint(0)) != 0:
        raise Unconfinable(f"landlock_restrict_self: {os.strerror(ctypes.get_errno())}")
    os.close(ruleset)


def _restrict_calls(may_open: bool) -> None:
    if platform.machine() != "x86_64":
        raise Unconfinable(f"there is no list of system calls for {platform.machine()}")
    program = _filter(may_open)
    code = ctypes.create_string_buffer(b"".join(program))
    header = ctypes.create_string_buffer(struct.pack("@HP", len(program), ctypes.addressof(code)))
    _prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.c_void_p(ctypes.addressof(header)))


def limit(memory_bytes: int, result_bytes: int) -> None:
    """Bounds what the child may use beyond what it has, and makes it end with its parent."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    with open("/proc/self/statm") as file:
        mapped = int(file.read().split()[0]) * resource.getpagesize()
    for which, value in (
        (resource.RLIMIT_AS, mapped + memory_bytes),
        (resource.RLIMIT_FSIZE, result_bytes),
        (resource.RLIMIT_NOFILE, 64),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(which, (value, value))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # a write past the limit is an OSError


def confine(readable: Iterable[str], layers: Iterable[str] = LAYERS) -> None:
    """REQUIRES: one thread. Raises Unconfinable; by then some rights may be gone already."""
    if "seccomp" not in layers:
        raise Unconfinable("seccomp is switched off")
    version = landlock_version() if "landlock" in layers else 0
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    _prctl(_PR_SET_DUMPABLE, 0)
    if version > 0:
        _restrict_files(version, readable)
    _restrict_calls(may_open=version > 0)
