"""Programs with placement="daemon": a real trund and its executor on the driver library that is a fake, which the
program has, too; memory is shared between the processes as on a GPU. On a GPU: tests/gpu/daemon_placement.sh."""

from __future__ import annotations

import json
import pathlib
import subprocess

import pytest
from conftest import mortal_daemon
from test_in_process_launches import fake_driver, native_launcher, run  # noqa: F401
from test_unchanged_programs import answering, environment, site_packages

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


PROGRAM = """
import sys
sys.path.insert(0, {here!r})
from daemon_placement_program import Array, block, chase, filled, np, segment, trun

trun.triton.install(placement="daemon")
from trun.triton import _native
_native.open_segments(0)
cell, target, outside = segment(), segment(), block()
Array(cell, 1, np.uint64).numpy()[0] = target
for line in sys.stdin:
    try:
        before = Array(target, 1).numpy()[0]
        chase[(1,)](Array(cell, 1, np.uint64))
        filled(outside, 3)
        print("launched", Array(target, 1).numpy()[0] - before, flush=True)
    except trun.TrunError as error:
        print(type(error).__name__, str(error).splitlines()[0], flush=True)
"""


def test_another_daemon_gets_the_same_memory_at_the_same_addresses(
    native_launcher: None,  # noqa: F811
    fake_driver: pathlib.Path,  # noqa: F811
    tmp_path: pathlib.Path,
) -> None:
    with mortal_daemon("--libcuda", str(fake_driver)) as daemon:
        environ = environment(daemon.address, [str(site_packages("3.9.0"))], tmp_path)
        environ["TRUN_LIBCUDA"] = str(fake_driver)
        with answering(PROGRAM.format(here=str(HERE)), environ, tmp_path) as ask:
            assert ask("launch") == "launched 1"
            daemon.kill()
            daemon.start()
            assert ask("launch") == "launched 1"
            daemon.kill()
            assert ask("launch").startswith("UnavailableError")
            daemon.start()
            assert ask("launch") == "launched 1"
