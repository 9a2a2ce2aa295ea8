"""Programs in-process: trun's native launcher with each Triton that is installed, on a driver library that is a fake.

The program is in_process_program.py, one process for each Triton; the fake is server/device/cuda/fake_driver, compiled
with NVIDIA's own cuda.h, so that what the launcher knows of the driver's binary interface is compared with it.
"""

from __future__ import annotations

import fcntl
import json
import os
import pathlib
import subprocess
import sys
from typing import Any

import pytest
from test_unchanged_programs import environment, site_packages

HERE = pathlib.Path(__file__).resolve().parent
VERSIONS = ["3.0.0", "3.1.0", "3.2.0", "3.3.1", "3.4.0", "3.5.1", "3.6.0", "3.7.1", "3.8.0", "3.9.0"]


@pytest.fixture(scope="module")
def native_launcher() -> None:
    """The module in the source tree, as the wheel has it. Its sources are the test's, so it is made anew."""
    pytest.importorskip("setuptools")
    with open(HERE.parent / ".generate.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        command = [sys.executable, "setup.py", "-q", "build_ext", "--inplace"]
        done = subprocess.run(command, cwd=HERE.parent, capture_output=True, text=True)
    built = HERE.parent / "src" / "trun" / "triton" / "_native.abi3.so"
    assert done.returncode == 0 and built.is_file(), done.stdout + done.stderr


@pytest.fixture(scope="module")
def fake_driver() -> pathlib.Path:
    build = pathlib.Path(os.environ.get("TRUN_BUILD_DIR", HERE.parents[2] / "build" / "dev"))
    library = build / "tests" / "libtrun_fake_cuda.so"
    if not library.is_file():
        pytest.skip(f"{library} is not built")
    return library


def run(program: list[str], daemon: str, fake: pathlib.Path, version: str, scratch: pathlib.Path, **more: str) -> Any:
    packages = [str(site_packages(version))]
    environ = environment(daemon, packages, scratch) | {"TRUN_LIBCUDA": str(fake), "TRUN_FAKE_CUDA_DEVICES": "2"}
    environ |= {"CC": "/bin/false"} | more  # nothing may be compiled
    return subprocess.run([sys.executable, *program], env=environ, capture_output=True, text=True, timeout=300)


@pytest.mark.parametrize("version", VERSIONS)
def test_what_a_program_passes_reaches_the_driver(
    version: str, native_launcher: None, fake_driver: pathlib.Path, real_daemon: str, tmp_path: pathlib.Path
) -> None:
    done = run([str(HERE / "in_process_program.py")], real_daemon, fake_driver, version, tmp_path)
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    failed = {line["case"]: line["error"] for line in lines if line["error"]}
    assert not failed, "\n".join(f"{case}:\n{error}" for case, error in failed.items())
    assert len(lines) >= 8


@pytest.mark.parametrize(
    ("call", "says"),
    [
        ("install(placement='in-process', launcher='mine')", "launcher is one of native, triton"),
        ("install(placement='in-process'); t.install(placement='emulator'); print(t.launcher())", "emulator"),
        ("install(placement='in-process', launcher='triton'); print(t.launcher())", "triton (asked for)"),
        ("install(placement='in-process'); print(t.launcher())", "native"),
        ("launcher()", "install() was not called"),
    ],
)
def test_who_launches_is_told(
    call: str,
    says: str,
    native_launcher: None,
    fake_driver: pathlib.Path,
    real_daemon: str,
    tmp_path: pathlib.Path,
) -> None:
    done = run(["-c", f"import trun.triton as t\nt.{call}"], real_daemon, fake_driver, "3.9.0", tmp_path)
    assert says in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("version", "known"), [("2.3.1", False), ("3.10.0", False), ("4", False), ("3.6.0+git1", True)]
)
def test_an_unknown_triton_is_refused_with_the_reason(
    version: str, known: bool, fake_driver: pathlib.Path, real_daemon: str, tmp_path: pathlib.Path
) -> None:
    program = f"import triton, trun.triton as t\ntriton.__version__ = {version!r}\nt.install(placement='in-process')"
    done = run(["-c", program], real_daemon, fake_driver, "3.9.0", tmp_path)
    assert (done.returncode == 0) == known, done.stderr
    assert known or f"this process has Triton {version}; programs run unchanged with 3.0 to 3.9" in done.stderr


@pytest.mark.parametrize(("gpus", "placed"), [("1", "native"), ("0", "emulator")])
def test_a_gpu_is_looked_for_without_a_context_in_the_program(
    gpus: str, placed: str, native_launcher: None, fake_driver: pathlib.Path, real_daemon: str, tmp_path: pathlib.Path
) -> None:
    program = "import trun.triton as t; t.install(); print(t.launcher(), 'fake_cuda' in open('/proc/self/maps').read())"
    done = run(["-c", program], real_daemon, fake_driver, "3.9.0", tmp_path, TRUN_FAKE_CUDA_DEVICES=gpus)
    assert done.stdout.split() == [placed, "False"], done.stdout + done.stderr
