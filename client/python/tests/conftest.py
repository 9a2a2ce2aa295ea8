"""Runs against the installed package, or against this checkout with freshly generated messages."""

from __future__ import annotations

import contextlib
import fcntl
import importlib.util
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator

import pytest

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[2]


def _use_checkout() -> None:
    package = HERE.parent
    sys.path.insert(0, str(package))
    import generate_stubs

    made = package / "src" / "trun" / "v1" / "session_pb2.py"
    newest = max(file.stat().st_mtime for file in generate_stubs.proto_files())
    with open(package / ".generate.lock", "w") as lock:  # pytest may run twice at once
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.is_file() or made.stat().st_mtime < newest:
            generate_stubs.generate(package / "src")
    sys.path.insert(0, str(package / "src"))
    os.environ["PYTHONPATH"] = str(package / "src")  # for the programs that tests start


if importlib.util.find_spec("trun") is None:
    _use_checkout()

import trun  # noqa: E402
from fake_trund import FakeTrund  # noqa: E402


@pytest.fixture
def folder() -> Iterator[str]:
    """A short path: a socket's may have 107 bytes."""
    path = tempfile.mkdtemp(prefix="trun-test-", dir="/tmp")
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def fake(folder: str) -> Iterator[FakeTrund]:
    daemon = FakeTrund(folder)
    yield daemon
    daemon.stop()


@pytest.fixture
def session(fake: FakeTrund) -> Iterator[trun.Session]:
    with trun.connect(fake.socket) as opened:
        yield opened


BUILD = pathlib.Path(os.environ.get("TRUN_BUILD_DIR", ROOT / "build" / "dev"))


class RealDaemon:
    """A daemon in a folder of its own, which can be killed and started again on the same socket."""

    def __init__(self, *flags: str) -> None:
        self._folder = tempfile.mkdtemp(prefix="trun-real-", dir="/tmp")
        self.address = f"unix:{self._folder}/trund.sock"
        self._flags = flags
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        folder = self._folder
        environment = os.environ | {"HOME": folder, "XDG_RUNTIME_DIR": folder, "XDG_CACHE_HOME": folder}
        environment.setdefault("TRUN_TOOLCHAINS_DIR", str(ROOT / "build" / "toolchains"))
        read, write = os.pipe()
        command = [str(BUILD / "bin" / "trund"), "--socket", f"{folder}/trund.sock", "--ready-fd", str(write)]
        command += ["--cache-dir", f"{folder}/cache", *self._flags]
        with open(os.path.join(folder, "log"), "a+") as log:
            self._process = subprocess.Popen(command, env=environment, pass_fds=[write], stdout=log, stderr=log)
            os.close(write)
            ready = os.read(read, 1)
            os.close(read)
            if ready == b"":
                log.seek(0)
                pytest.fail(f"trund did not start: {log.read()[-2000:]}")

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def end(self) -> None:
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)


@contextlib.contextmanager
def mortal_daemon(*flags: str) -> Iterator[RealDaemon]:
    """A real daemon that the test may kill; skips the test where it is not built."""
    if not (BUILD / "bin" / "trund").is_file() or not (BUILD / "bin" / "trun-executor").is_file():
        pytest.skip("trund is not built: set TRUN_BUILD_DIR")
    daemon = RealDaemon(*flags)
    try:
        daemon.start()
        yield daemon
    finally:
        daemon.end()


@contextlib.contextmanager
def started_daemon(*flags: str) -> Iterator[str]:
    """The address of a real daemon; skips the test where it is not built."""
    with mortal_daemon(*flags) as daemon:
        yield daemon.address


@pytest.fixture(scope="session")
def real_daemon() -> Iterator[str]:
    with started_daemon() as address:
        yield address


@pytest.fixture(scope="module")
def daemon_with_gpu() -> Iterator[str]:
    """A daemon of the module's own, with an emulator of sm_90 and a GPU that the fake driver tells of."""
    driver = BUILD / "tests" / "libtrun_fake_cuda.so"
    if not driver.exists():
        pytest.skip(f"{driver} is not built")
    with started_daemon("--libcuda", str(driver), "--emulator", "sm_90") as address:
        yield address


@pytest.fixture(name="mortal_daemon")
def _mortal_daemon() -> Iterator[RealDaemon]:
    with mortal_daemon() as daemon:
        yield daemon
