"""Programs written for Triton, run unchanged on the daemon: with each Triton that is installed, on the emulator.

The programs are unchanged_program.py, one process for each Triton and architecture, and where torch is
tests/gpu/torch_*.py, which are also for a GPU.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import pathlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import trun
from trun.triton._launcher import flatten
from trun.triton._memory import Range, extent_of, merged

HERE = pathlib.Path(__file__).resolve().parent
GPU_TESTS = HERE.parents[2] / "tests" / "gpu"
TOOLCHAINS = HERE.parents[2] / "build" / "toolchains"
RUNS = [
    ("3.0.0", "sm_80", "daemon"),
    ("3.1.0", "sm_90", "daemon"),
    ("3.2.0", "sm_80", "daemon"),
    ("3.3.1", "sm_90", "daemon"),
    ("3.4.0", "sm_80", "daemon"),
    ("3.5.1", "sm_90", "daemon"),
    ("3.6.0", "sm_80", "daemon"),
    ("3.7.1", "sm_90", "daemon"),
    ("3.8.0", "sm_80", "daemon"),
    ("3.9.0", "sm_80", "daemon"),
    ("3.9.0", "sm_90", "daemon"),
    ("3.9.0", "sm_80", "local"),
]


def site_packages(version: str) -> pathlib.Path:
    folders = pathlib.Path(os.environ.get("TRUN_TOOLCHAINS_DIR", str(TOOLCHAINS)))
    name = f"python{sys.version_info.major}.{sys.version_info.minor}"
    found = folders / version / "lib" / name / "site-packages"
    if not (found / "triton").is_dir():
        pytest.skip(f"Triton {version} for {name} is not installed in {folders}")
    return found


def environment(daemon: str, path: list[str], scratch: pathlib.Path) -> dict[str, str]:
    return os.environ | {
        "TRUN_ADDRESS": daemon,
        "PYTHONPATH": os.pathsep.join([*path, os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep),
        "TRITON_CACHE_DIR": str(scratch / "cache"),
        "HOME": str(scratch),
    }


@pytest.fixture(scope="module", params=RUNS, ids=lambda run: "-".join(run))
def results(request: Any, real_daemon: str, tmp_path_factory: Any) -> dict[str, str]:
    """What each case of the program says: its traceback, "" where it passed."""
    version, arch, compile = request.param
    packages = site_packages(version)
    scratch = tmp_path_factory.mktemp("program")
    command = [sys.executable, str(HERE / "unchanged_program.py"), arch, compile]
    done = subprocess.run(
        command,
        env=environment(real_daemon, [str(packages)], scratch),
        capture_output=True,
        text=True,
        timeout=600,
    )
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return {line["case"]: line["error"] for line in lines}


def test_every_case_of_a_program_passes_with_this_triton(results: dict[str, str]) -> None:
    assert len(results) >= 18
    failed = {case: error for case, error in results.items() if error}
    assert not failed, "\n".join(f"{case}:\n{error}" for case, error in failed.items())


def run_with_triton(daemon: str, scratch: pathlib.Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        env=environment(daemon, [str(site_packages("3.9.0"))], scratch),
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_a_script_is_run_by_the_module_with_its_arguments(real_daemon: str, tmp_path: pathlib.Path) -> None:
    script = tmp_path / "program.py"
    script.write_text("import sys, trun.triton\nprint(__name__, sys.argv[1:], trun.triton.installed())\n")
    done = run_with_triton(real_daemon, tmp_path, "-m", "trun.triton", "--arch", "sm_90", str(script), "a", "-b")
    assert done.stdout.split("\n")[0] == "__main__ ['a', '-b'] True", done.stderr


def test_processes_that_a_program_starts_are_under_it_too(real_daemon: str, tmp_path: pathlib.Path) -> None:
    child = "import sys; print('trun' in sys.modules); import triton; import trun.triton as t; print(t.installed())"
    script = tmp_path / "program.py"
    script.write_text(f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {child!r}], check=True)\n")
    (tmp_path / "sitecustomize.py").write_text("print('the own sitecustomize')\n")
    environ = environment(real_daemon, [str(site_packages("3.9.0")), str(tmp_path)], tmp_path)
    command = [sys.executable, "-m", "trun.triton", "--arch", "sm_90", str(script)]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=300)
    own = "the own sitecustomize"
    assert done.stdout.split("\n")[:4] == [own, own, "False", "True"], done.stdout + done.stderr


@pytest.mark.parametrize(
    ("call", "says"),
    [
        ("install(placement='emulator', arch='sm_75')", "no emulator of sm_75; it has sm_80, sm_90"),
        ("install(placement='daemon')", "the daemon has no GPU cuda:0 to launch on"),
        ("install(placement='gpu')", "placement is one of"),
        ("install(placement='in-process', cpu_as_cuda=True)", "cpu_as_cuda needs"),
        ("install(compile='remote')", "compile is 'daemon' or 'local', not 'remote'"),
        ("install(address='unix:/tmp/no-daemon-here.sock')", "no-daemon-here.sock"),
        ("install(address='http://somewhere')", "http://somewhere"),
        ("session()", "install() was not called"),
    ],
)
def test_what_cannot_work_is_refused_with_the_reason(
    call: str, says: str, real_daemon: str, tmp_path: pathlib.Path
) -> None:
    done = run_with_triton(real_daemon, tmp_path, "-c", f"import trun.triton\ntrun.triton.{call}")
    assert done.returncode == 1
    assert says in done.stderr


@contextlib.contextmanager
def answering(source: str, environ: dict[str, str], scratch: pathlib.Path) -> Iterator[Callable[[str], str]]:
    """A program that answers each line of its input with one; it has to end well when there are no more."""
    script = scratch / "answering.py"
    script.write_text(source)
    pipe = subprocess.PIPE
    program = subprocess.Popen([sys.executable, str(script)], env=environ, stdin=pipe, stdout=pipe, text=True)
    assert program.stdin is not None and program.stdout is not None
    answers, questions = program.stdout, program.stdin

    def ask(line: str) -> str:
        print(line, file=questions, flush=True)
        return answers.readline().strip()

    try:
        yield ask
        questions.close()
        assert program.wait(30) == 0
    finally:
        program.kill()
        program.wait()
        answers.close()


RESTARTED = """
import sys
from unchanged_program import *

trun.triton.install(placement="emulator", arch="sm_80")
x, y, out = aligned(300, np.float32, 1), aligned(300, np.float32, 2), aligned(300, np.float32)
for line in sys.stdin:
    before = out.copy()
    try:
        add(x, y, out)
        assert (out == x + y).all()
        print("launched", flush=True)
    except trun.TrunError as error:
        assert (out == before).all()
        print(type(error).__name__, str(error).splitlines()[0], flush=True)
    out[:] = 0
"""


RESTARTED_TORCH = """
import sys
import trun.triton

trun.triton.install(placement="emulator", arch="sm_80", cpu_as_cuda=True)
import torch, trun
from torch_cases import add

x = torch.rand(300, device="cuda")  # memory of the first daemon's session, mapped here
for line in sys.stdin:
    try:
        out = add(x, torch.ones(300, device="cuda"))
        assert x.is_cuda and out.is_cuda and (out == x + 1).all()
        print("launched", flush=True)
    except trun.TrunError as error:
        print(type(error).__name__, str(error).splitlines()[0], flush=True)
"""


@pytest.mark.parametrize("kind", ["numpy", "torch"])
def test_launches_survive_that_the_daemon_is_killed_and_started_again(
    kind: str, mortal_daemon: Any, tmp_path: pathlib.Path
) -> None:
    if kind == "torch":
        pytest.importorskip("torch", reason="torch is not installed")
        source, path = RESTARTED_TORCH, [str(GPU_TESTS)]
    else:
        source, path = RESTARTED, [str(HERE), str(site_packages("3.9.0"))]
    with answering(source, environment(mortal_daemon.address, path, tmp_path), tmp_path) as ask:
        assert ask("launch") == "launched"
        mortal_daemon.kill()
        mortal_daemon.start()
        assert ask("launch") == "launched"
        mortal_daemon.kill()
        gone = ask("launch")
        assert gone.startswith("UnavailableError") and mortal_daemon.address.removeprefix("unix:") in gone, gone
        assert ask("launch").startswith("UnavailableError")
        mortal_daemon.start()
        assert ask("launch") == "launched"


IN_PROCESS = """
import triton, triton.language as tl, trun.triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

@triton.jit
def fill(out, BLOCK: tl.constexpr):
    tl.store(out + tl.arange(0, BLOCK), 1.0)

trun.triton.install(placement="in-process")
connection = trun.triton.session()._connection
calls, receive = [], connection.receive
connection.receive = lambda name, *rest, **named: calls.append(name) or receive(name, *rest, **named)
source = ASTSource(fill, {"out": "*fp32", "BLOCK": "constexpr"}, {(1,): 128})
kernel = triton.compile(source, target=GPUTarget("cuda", 90, 32), options={"num_warps": 2})
assert kernel.asm["cubin"][:4] == bytes([0x7F]) + b"ELF" and ".reqntid 64" in kernel.asm["ptx"]
assert kernel.metadata.num_warps == 2 and kernel.metadata.name == "fill"
assert calls.count("CompileService.Compile") == 1 and calls.count("CompileService.GetArtifact") == 4, calls
print("compiled by", trun.triton.session().device)
"""


COMPILES = """
import sys
import triton, triton.language as tl, trun, trun.triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

@triton.jit
def fill(out, BLOCK: tl.constexpr):
    tl.store(out + tl.arange(0, BLOCK), 1.0)

trun.triton.install(placement="in-process")
for line in sys.stdin:
    source = ASTSource(fill, {"out": "*fp32", "BLOCK": "constexpr"}, {(1,): int(line)})
    try:
        print(len(triton.compile(source, target=GPUTarget("cuda", 90, 32)).asm["cubin"]) > 0, flush=True)
    except trun.TrunError as error:
        print(type(error).__name__, str(error).splitlines()[0], flush=True)
"""


def test_compiles_of_a_gpu_program_survive_their_daemon_too(mortal_daemon: Any, tmp_path: pathlib.Path) -> None:
    path = [str(site_packages("3.9.0"))]
    with answering(COMPILES, environment(mortal_daemon.address, path, tmp_path), tmp_path) as ask:
        assert ask("32") == "True"
        mortal_daemon.kill()
        gone = ask("64")
        assert gone.startswith("UnavailableError") and mortal_daemon.address.removeprefix("unix:") in gone, gone
        mortal_daemon.start()
        assert ask("64") == "True"


def test_a_gpu_program_gets_the_daemons_cubin(real_daemon: str, tmp_path: pathlib.Path) -> None:
    (tmp_path / "program.py").write_text(IN_PROCESS)
    done = run_with_triton(real_daemon, tmp_path, str(tmp_path / "program.py"))
    assert done.stdout.strip() == "compiled by emulator:0", done.stdout + done.stderr


def test_without_torch_its_devices_cannot_be_the_emulator(real_daemon: str, tmp_path: pathlib.Path) -> None:
    if importlib.util.find_spec("torch") is not None:
        pytest.skip("torch is installed")
    program = "import trun.triton as t\ntry: t.install(cpu_as_cuda=True, placement='emulator')\n"
    program += "except Exception as error: print(type(error).__name__, error, t.installed())"
    done = run_with_triton(real_daemon, tmp_path, "-c", program)
    assert done.stdout.startswith("TrunError [UNSUPPORTED_TARGET] cpu_as_cuda") and "no torch in" in done.stdout, (
        done.stdout + done.stderr
    )
    assert done.stdout.strip().endswith("False")


@pytest.mark.parametrize("program", ["torch_program.py", "torch_cases.py"])
def test_torch_programs_run_with_cuda_devices_as_the_emulator(
    program: str, real_daemon: str, tmp_path: pathlib.Path
) -> None:
    pytest.importorskip("torch", reason="torch is not installed")
    command = [sys.executable, "-m", "trun.triton", "--cpu-as-cuda", str(GPU_TESTS / program)]
    done = subprocess.run(
        command, env=environment(real_daemon, [], tmp_path), capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_ranges_that_overlap_are_one_and_those_that_touch_are_not() -> None:
    assert merged([Range(40, 60), Range(0, 10), Range(10, 20), Range(15, 30), Range(5, 5)]) == [
        Range(0, 10),
        Range(10, 30),
        Range(40, 60),
    ]


def test_the_memory_of_a_view_is_what_its_strides_reach() -> None:
    whole = np.zeros((8, 8), np.float32)
    start = whole.__array_interface__["data"][0]
    assert extent_of(whole, 0) == Range(start, start + 256)
    assert extent_of(whole[::-1, 2:4], 0) == Range(start + 8, start + 256 - 16)
    assert extent_of(whole[:0], 0).nbytes == 0


def test_an_object_that_does_not_tell_its_size_is_refused() -> None:
    class OnlyAddress:
        def data_ptr(self) -> int:
            return 4096

    with pytest.raises(trun.ArgumentError, match="argument 3 is a pointer"):
        extent_of(OnlyAddress(), 3)


def test_arguments_are_flattened_without_constexprs() -> None:
    types = ["*fp32", ("i32", "constexpr", ("fp32",)), "constexpr"]
    assert list(flatten(types, [1, (2, 3, (4.0,)), 5])) == [("*fp32", 1), ("i32", 2), ("fp32", 4.0)]
