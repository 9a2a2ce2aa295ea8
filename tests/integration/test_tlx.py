"""Meta's fork of Triton with TLX: its files without it, and the fork itself as an adopted environment.

The files are those of testdata/tlx (regenerate.sh beside them). TRUN_TLX_ENVIRONMENT names a virtual environment that
has the fork (PyPI: fbtriton); without it the last tests are left out.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import BUILD, ROOT, TOOLCHAINS
from daemon import CallError, Daemon, Session

FILES = ROOT / "tests/integration/testdata/tlx"
ENVIRONMENT = os.environ.get("TRUN_TLX_ENVIRONMENT", "")
METADATA = (FILES / "staged_add.json").read_text()


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    running = Daemon(tmp_path_factory.mktemp("tlx"), BUILD, TOOLCHAINS, "--emulator", "sm_90")
    running.start()
    yield running
    running.stop()


@pytest.fixture
def session(daemon: Daemon) -> Iterator[Session]:
    opened = daemon.open_session()
    yield opened
    opened.close()


def read(level: str) -> bytes:
    return (FILES / f"staged_add.{level}").read_bytes()


def sums(session: Session, kernel: str, n: int = 1000) -> None:
    x, y = (np.random.default_rng(seed).standard_normal(n).astype(np.float32) for seed in (1, 2))
    out = session.tensor(np.zeros_like(x))
    session.launch(kernel, (4,), session.tensor(x), session.tensor(y), out, n)
    np.testing.assert_array_equal(np.frombuffer(session.read(out.tensor), np.float32), x + y)


def test_its_ttir_says_that_it_needs_the_fork_and_how_to_have_it(session: Session) -> None:
    assert b"tlx." in read("ttir") and json.loads(METADATA)["triton_version"].endswith("+fb")
    for given in ({}, {"metadata_json": METADATA}):
        with pytest.raises(CallError) as caught:
            session.compile(read("ttir"), "ttir", **given)
        error = caught.value
        assert (error.code.name, error.reason) == ("FAILED_PRECONDITION", "UNSUPPORTED_TARGET")
        assert "Meta's TLX: adopt an environment with that fork" in error.message


def test_its_cubin_on_an_emulator_is_refused_as_any(session: Session) -> None:
    with pytest.raises(CallError) as caught:
        session.compile(read("cubin"), "cubin", metadata_json=METADATA)
    assert (caught.value.code.name, caught.value.reason) == ("FAILED_PRECONDITION", "UNSUPPORTED_LEVEL")


@pytest.mark.parametrize("level", ["ttgir", "llir", "ptx"])
def test_its_files_from_ttgir_on_run_without_it(session: Session, level: str) -> None:
    made = session.compile(read(level), level, metadata_json=METADATA)
    assert made.toolchain == ("" if level == "ptx" else "3.7.1"), made.toolchain_reason
    sums(session, made.kernel)


def adopt(daemon: Daemon) -> subprocess.CompletedProcess[str]:
    words = [BUILD / "bin/trun-client", "toolchains", "adopt", ENVIRONMENT, "--name", "tlx"]
    address = {"TRUN_ADDRESS": f"unix:{daemon.socket}", "PATH": "/usr/bin:/bin", "HOME": str(daemon.folder)}
    return subprocess.run(words, env=address, capture_output=True, text=True, timeout=120)


def snapshot(folder: Path) -> dict[str, Any]:
    return {str(file): file.stat().st_mtime_ns for file in folder.rglob("*")}


@pytest.mark.skipif(not ENVIRONMENT, reason="TRUN_TLX_ENVIRONMENT names no environment with the fork")
def test_the_fork_is_adopted_takes_its_source_and_its_files_and_is_left_as_it_was(daemon: Daemon) -> None:
    before = snapshot(Path(ENVIRONMENT))
    done = adopt(daemon)
    assert done.returncode == 0, done.stderr
    session = daemon.open_session()
    text = {"file": "staged_add.py", "source": (FILES / "staged_add.py").read_text(), "function": "staged_add"}
    pointer = {"kind": "pointer", "dtype": "f32", "divisible": True}
    arguments: dict[str, Any] = {name: pointer for name in ("x_ptr", "y_ptr", "out_ptr")}
    arguments |= {"n": {"kind": "scalar", "dtype": "i32"}, "BLOCK": {"kind": "constexpr", "value": 256}}
    bundle = json.dumps({"format": 1, "text": text, "arguments": arguments})
    made = session.compile(bundle, "python", toolchain="tlx")
    sums(session, made.kernel)
    # Nobody names it: it is the only one that takes this file.
    made = session.compile(read("ttir"), "ttir")
    assert made.toolchain == "tlx", made.toolchain_reason
    sums(session, made.kernel)
    session.close()
    assert snapshot(Path(ENVIRONMENT)) == before
