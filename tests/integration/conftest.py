"""Real processes, real sockets: a trund of its own for each test module, spoken to with plain gRPC stubs.

The stubs are generated from proto/ on first use, so that these tests hold the wire format and not a client library.
TRUN_BUILD_DIR (build/dev) has the binaries, TRUN_TOOLCHAINS_DIR (build/toolchains) the Triton versions.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("TRUN_BUILD_DIR", ROOT / "build/dev"))
TOOLCHAINS = Path(os.environ.get("TRUN_TOOLCHAINS_DIR", ROOT / "build/toolchains"))
sys.path.insert(0, str(Path(__file__).parent))


def _generate_stubs() -> None:
    import google.rpc

    out = BUILD / "python-stubs"
    protos = sorted((ROOT / "proto/trun/v1").glob("*.proto"))
    stamp = out / ".stamp"
    newest = max(p.stat().st_mtime for p in protos)
    if not stamp.exists() or stamp.stat().st_mtime < newest:
        out.mkdir(parents=True, exist_ok=True)
        googleapis = Path(next(iter(google.rpc.__path__))).parents[1]
        subprocess.run(
            [sys.executable, "-m", "grpc_tools.protoc", f"-I{ROOT / 'proto'}", f"-I{googleapis}"]
            + [f"--python_out={out}", f"--grpc_python_out={out}"]
            + [str(p.relative_to(ROOT / "proto")) for p in protos],
            check=True,
            cwd=ROOT / "proto",
        )
        stamp.touch()
    sys.path.insert(0, str(out))


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "slow: takes minutes")
    _generate_stubs()


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[object]:
    from daemon import Daemon

    if not (BUILD / "bin/trund").exists():
        pytest.fail(f"{BUILD}/bin/trund is not built")
    running = Daemon(tmp_path_factory.mktemp("trund"), BUILD, TOOLCHAINS)
    running.start()
    yield running
    assert running.stop() == 0


@pytest.fixture
def session(daemon: object) -> Iterator[object]:
    opened = daemon.open_session()  # type: ignore[attr-defined]
    yield opened
    opened.close()
