"""Programs with placement="daemon": a real trund and its executor on the driver library that is a fake, which the
program has, too; memory is shared between the processes as on a GPU. On a GPU: tests/gpu/daemon_placement.sh."""

from __future__ import annotations

import json
import pathlib
import subprocess

import pytest
from test_in_process_launches import fake_driver, native_launcher, run  # noqa: F401

HERE = pathlib.Path(__file__).resolve().parent


@pytest.mark.parametrize("version", ["3.0.0", "3.4.0", "3.9.0"])
def test_the_daemon_launches_on_the_programs_memory(
    version: str,
    native_launcher: None,  # noqa: F811
    fake_driver: pathlib.Path,  # noqa: F811
    daemon_with_gpu: str,
    tmp_path: pathlib.Path,
) -> None:
    done = run([str(HERE / "daemon_placement_program.py")], daemon_with_gpu, fake_driver, version, tmp_path)
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    failed = {line["case"]: line["error"] for line in lines if line["error"]}
    assert not failed, "\n".join(f"{case}:\n{error}" for case, error in failed.items())
    assert len(lines) >= 11


def test_a_daemon_without_a_gpu_is_named_as_the_reason(
    native_launcher: None,  # noqa: F811
    fake_driver: pathlib.Path,  # noqa: F811
    real_daemon: str,
    tmp_path: pathlib.Path,
) -> None:
    program = "import trun.triton as t\nt.install(placement='daemon')"
    done = run(["-c", program], real_daemon, fake_driver, "3.9.0", tmp_path)
    assert done.returncode != 0 and "UNSUPPORTED_TARGET" in done.stderr, done.stderr
    assert "the daemon has no GPU cuda:0 to launch on" in done.stderr


def test_the_variable_asks_for_the_placement(
    native_launcher: None,  # noqa: F811
    fake_driver: pathlib.Path,  # noqa: F811
    daemon_with_gpu: str,
    tmp_path: pathlib.Path,
) -> None:
    program = "import trun.triton as t\nt.install(); print(t.launcher())"
    done: subprocess.CompletedProcess[str] = run(
        ["-c", program], daemon_with_gpu, fake_driver, "3.9.0", tmp_path, TRUN_PLACEMENT="daemon"
    )
    assert done.stdout.split() == ["daemon"], done.stdout + done.stderr
