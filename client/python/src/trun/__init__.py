"""The Python client of trund: compile Triton kernels of any level and launch them, without Triton or torch.

    import numpy as np, trun

    with trun.connect() as session:                      # starts a private daemon when none answers
        kernel = session.load("vector_add.ttir")
        kernel[(4,)](x, y, out, 4096)                     # NumPy arrays are written back

Every error is a trun.TrunError with a reason, a place and a next step: trun.errors.
"""

from __future__ import annotations

import pathlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from trun._address import daemon_socket_path, parse_address
from trun._autotune import Autotuner, Config, autotune, heuristics
from trun._daemon import ensure_daemon
from trun._jit import JITFunction, constexpr_function, default_session, jit, set_default_session
from trun._level_files import get_file_dir
from trun._rpc import Connection
from trun._version import __version__
from trun.errors import *  # noqa: F403
from trun.errors import FaultReport, OtherAccess, TrunError
from trun.kernel import (
    Argument,
    ArtifactInfo,
    BenchmarkResult,
    Kernel,
    LaunchResult,
    Seconds,
    Signature,
    Stage,
    Trace,
)
from trun.session import CompileOption, Device, Metadata, Session, Source, Toolchain
from trun.tensor import Im2col, Tensor, TensorAt, TensorDescriptor

__all__ = [
    "Argument",
    "ArtifactInfo",
    "Autotuner",
    "BenchmarkResult",
    "CompileOption",
    "CompiledKernel",
    "Config",
    "Device",
    "FaultReport",
    "Im2col",
    "JITFunction",
    "Kernel",
    "LaunchResult",
    "OtherAccess",
    "Session",
    "Signature",
    "Stage",
    "Tensor",
    "TensorAt",
    "TensorDescriptor",
    "Toolchain",
    "Trace",
    "TrunError",
    "__version__",
    "autotune",
    "cdiv",
    "compile",
    "connect",
    "constexpr_function",
    "default_session",
    "get_file_dir",
    "gluon",
    "heuristics",
    "jit",
    "language",
    "next_power_of_2",
    "set_default_session",
]
__all__ += [name for name in dir() if name.endswith("Error") and name != "TrunError"]


def connect(
    address: str | None = None,
    device: str | None = None,
    *,
    start: bool = True,
    name: str | None = None,
    lease: float = 30.0,
    memory_limit: int = 0,
) -> Session:
    """Opens a session on one device.

    address: "unix:/path/of/socket". None: TRUN_ADDRESS, else this user's private daemon, which is started when none
    answers (never for an address that was given, and not with start=False) and ends by itself when idle.
    device: "emulator:0"; None: TRUN_DEVICE, else the daemon's default.
    lease: seconds after which the daemon ends the session of a client that vanished.
    memory_limit: bytes; 0: the user's limit.
    """
    if address is not None:
        path, given = parse_address(address), True
    else:
        path, given = daemon_socket_path()
    started = ensure_daemon(path) if start and not given else False
    connection = Connection(path, started)
    try:
        return Session(connection, device, name=name, lease=lease, memory_limit=memory_limit)
    except BaseException:
        connection.close()
        raise


@dataclass(frozen=True)
class CompiledKernel:
    """What trun.compile() returns: everything there is to a kernel, with no session behind it."""

    name: str
    signature: Signature
    metadata: dict[str, Any]
    target: str
    toolchain: str
    cached: bool
    stages: tuple[Stage, ...]
    log: str
    artifacts: dict[str, str | bytes] = field(repr=False)

    @property
    def asm(self) -> dict[str, str | bytes]:
        return self.artifacts

    def save(self, folder: str | pathlib.Path) -> None:
        """Writes NAME.LEVEL for every level, and NAME.json."""
        import json

        out = pathlib.Path(folder)
        out.mkdir(parents=True, exist_ok=True)
        for level, content in self.artifacts.items():
            (out / f"{self.name}.{level}").write_bytes(content.encode() if isinstance(content, str) else content)
        (out / f"{self.name}.json").write_text(json.dumps(self.metadata, sort_keys=True) + "\n")


def compile(
    source: Source,
    *,
    target: str | None = None,
    to: str = "cubin",
    metadata: Metadata | None = None,
    level: str | None = None,
    options: Mapping[str, Any] | None = None,
    toolchain: str | None = None,
    kernel_name: str | None = None,
    deadline: Seconds | None = None,
    session: Session | None = None,
) -> CompiledKernel:
    """Compiles a kernel of any level to a later one and returns all its artifacts; nothing is launched.

    target: "sm_90"; None: the default device's. The other arguments are those of Session.load(). With no session,
    one is opened for the call.
    """
    if session is None:
        with connect() as opened:
            return compile(
                source,
                target=target,
                to=to,
                metadata=metadata,
                level=level,
                options=options,
                toolchain=toolchain,
                kernel_name=kernel_name,
                deadline=deadline,
                session=opened,
            )
    kernel = session.load(
        source,
        metadata=metadata,
        level=level,
        options=options,
        toolchain=toolchain,
        target=target,
        to=to,
        kernel_name=kernel_name,
        deadline=deadline,
    )
    return CompiledKernel(
        kernel.name,
        kernel.signature,
        kernel.metadata,
        kernel.target,
        kernel.toolchain,
        kernel.cached,
        kernel.stages,
        kernel.log,
        dict(kernel.asm),
    )


def cdiv(x: int, y: int) -> int:
    """How many blocks of y cover x."""
    return -(-x // y)


def next_power_of_2(n: int) -> int:
    """The smallest power of two that is at least n."""
    return 1 << max(n - 1, 0).bit_length()


from trun import gluon, language  # noqa: E402
