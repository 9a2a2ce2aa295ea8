"""The bundle, used as on a box that has nothing: an empty folder as the root, then a folder anywhere with a Python."""

from __future__ import annotations

import json
import os
import shutil
import struct
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("TRUN_BUILD_DIR", ROOT / "build/dev"))
TOOLCHAINS = Path(os.environ.get("TRUN_TOOLCHAINS_DIR", ROOT / "build/toolchains"))
PROGRAMS = ["trund", "trun-executor", "trun-client"]
ADD = ["--grid", "4", "--arg", "0=f32[4096]:randn(seed=1)", "--arg", "1=f32[4096]:randn(seed=2)"]
ADD += ["--out", "2=f32[4096]", "--arg", "3=4096"]

sys.path.insert(0, str(ROOT / "examples"))
import reference  # noqa: E402


@pytest.fixture(scope="module")
def tarball(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("bundle")
    command = [ROOT / "deploy/bundle.sh", "--fast", "--from", BUILD, "-o", out]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    (made,) = out.glob("trun-*.tar.xz")
    return made


def test_the_same_sources_and_programs_give_the_same_bytes(tarball: Path, tmp_path: Path) -> None:
    command = [ROOT / "deploy/bundle.sh", "--fast", "--from", BUILD, "-o", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    again = tmp_path / tarball.name
    assert again.stat().st_mtime > tarball.stat().st_mtime
    assert again.read_bytes() == tarball.read_bytes()


@pytest.fixture(scope="module")
def root(tarball: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty root folder with the bundle in /some/where and a home: no /proc, /dev, /tmp, /lib or /etc."""
    folder = tmp_path_factory.mktemp("root")
    (folder / "home").mkdir(mode=0o700)
    (folder / "some").mkdir()
    subprocess.run(["tar", "-xf", tarball, "-C", folder / "some"], check=True)
    (unpacked,) = (folder / "some").iterdir()
    unpacked.rename(folder / "some/where")
    return folder


def in_empty_root(root: Path, *command: object, code: int = 0) -> str:
    enter = ["chroot", root] if os.geteuid() == 0 else ["unshare", "-r", "chroot", root]
    done = subprocess.run(
        [*enter, *map(str, command)],
        env={"HOME": "/home", "XDG_RUNTIME_DIR": "/home", "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == code, f"{command}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


@pytest.fixture
def client(root: Path) -> Iterator[str]:
    """trun-client's path in the empty root; its daemon ends with the test."""
    yield "/some/where/bin/trun-client"
    in_empty_root(root, "/some/where/bin/trun-client", "daemon", "stop")


def segments(program: Path) -> list[int]:
    image = program.read_bytes()
    (table,) = struct.unpack_from("<Q", image, 32)
    size, count = struct.unpack_from("<HH", image, 54)
    return [struct.unpack_from("<I", image, table + i * size)[0] for i in range(count)]


def test_it_is_small_and_lies_in_one_folder(tarball: Path) -> None:
    assert tarball.stat().st_size <= 30 << 20
    with tarfile.open(tarball) as archive:
        members = archive.getmembers()
    assert {member.name.split("/")[0] for member in members} == {tarball.name.removesuffix(".tar.xz")}
    assert all(member.isfile() or member.isdir() for member in members)
    assert {member.uid for member in members} == {0} and not any(member.mode & 0o7022 for member in members)


def test_a_program_has_no_interpreter_and_looks_for_libraries_beside_itself_alone(root: Path) -> None:
    for name in PROGRAMS:
        program = root / "some/where/bin" / name
        assert 3 not in segments(program), f"{name} has a PT_INTERP"
        dynamic = subprocess.run(["readelf", "-d", program], capture_output=True, text=True, check=True).stdout
        assert "Library rpath: [$ORIGIN/../lib]" in dynamic and "RUNPATH" not in dynamic


def test_every_library_has_a_licence(root: Path) -> None:
    share = root / "some/where/share"
    listed = [line.split()[0] for line in (share / "packages.txt").read_text().splitlines()]
    assert "libgrpc29" in listed and "libc6" in listed
    assert [file.stem for file in sorted((share / "licenses").iterdir())] == sorted(listed)
    assert all(file.stat().st_size > 200 for file in (share / "licenses").iterdir())


def test_without_its_libraries_a_program_says_what_is_missing(root: Path) -> None:
    alone = root / "alone/bin"
    alone.mkdir(parents=True)
    shutil.copy(root / "some/where/bin/trun-client", alone)
    said = in_empty_root(root, "/alone/bin/trun-client", "version", code=127)
    assert said == "trun bundle: cannot open its loader /alone/bin/../lib/ld-linux-x86-64.so.2\n"


def test_wrong_numbers_are_seen_in_an_empty_root(root: Path, client: str) -> None:
    np.save(root / "home/wrong.npy", np.zeros(4096, np.float32))
    kernel = "/some/where/examples/kernels/vector_add.sm80.ptx"
    said = in_empty_root(root, client, "run", kernel, *ADD, "--expect", "2=/home/wrong.npy", code=1)
    assert "MISMATCH in 4096 of 4096 elements" in said


def test_a_compiled_kernel_runs_in_an_empty_root(root: Path, client: str) -> None:
    """Client, daemon, executor and emulator with nothing but the bundle: started by an absolute path and a relative."""
    assert in_empty_root(root, client, "version").startswith("trun-client ")
    x, y = (reference.randn(seed, [4096]).astype(np.float32) for seed in (1, 2))
    np.save(root / "home/sum.npy", x + y)
    kernel = "/some/where/examples/kernels/vector_add.sm80.ptx"
    expect = ["--expect", "2=/home/sum.npy", "--rtol", "0", "--atol", "0"]
    assert "emulator:0" in in_empty_root(root, client, "run", kernel, *ADD, *expect)
    in_empty_root(root, client.lstrip("/"), "run", kernel, *ADD, *expect)


def test_a_kernel_that_needs_a_compiler_says_so_in_an_empty_root(root: Path, client: str) -> None:
    grid = ["--grid", "1", "--arg", "x_ptr=f32[8]", "--arg", "y_ptr=f32[8]", "--out", "out_ptr=f32[8]"]
    file = "/some/where/examples/kernels/vector_add.ttir"
    said = in_empty_root(root, client, "run", file, *grid, "--arg", "n_elements=8", code=3)
    assert "TOOLCHAIN_NOT_FOUND" in said and "toolchains install" in said


# -- with a Python that has Triton, as on a GPU box --


class Box:
    """A user of the bundle: a home of their own, the bundle and a Python with its wheel on the PATH."""

    def __init__(self, bundle: Path, site: Path, home: Path) -> None:
        self.bundle, self.site = bundle, site
        home.chmod(0o700)
        self.environment = {
            "PATH": f"{bundle / 'bin'}:{Path(sys.executable).parent}:/usr/bin:/bin",
            "HOME": str(home),
            "XDG_RUNTIME_DIR": str(home),
            "PYTHONPATH": str(site),
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    def __call__(self, *command: object, timeout: float = 300, **variables: str) -> str:
        done = subprocess.run(
            [*map(str, command)],
            cwd=self.bundle,
            env=self.environment | variables,
            capture_output=True,
            text=True,
            timeout=timeout,
        )
        assert done.returncode == 0, f"{command}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout


@pytest.fixture(scope="module")
def make_box(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    bundle = root / "some/where"
    site = tmp_path_factory.mktemp("site")
    wheels = list((bundle / "python").glob("trun-*.whl"))
    assert len(wheels) == 1, wheels
    install = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-deps", "--no-compile"]
    subprocess.run([*install, "--target", site, *wheels], check=True)
    boxes = []

    def make() -> Box:
        boxes.append(Box(bundle, site, tmp_path_factory.mktemp("home")))
        return boxes[-1]

    yield make
    for box in boxes:
        box("trun-client", "daemon", "stop")


@pytest.fixture(scope="module")
def box(make_box: Any) -> Box:
    """Its Triton is adopted: the daemon knows no folder of toolchains."""
    made: Box = make_box()
    made("trun-client", "toolchains", "adopt", TOOLCHAINS / "3.9.0")
    return made


# Every module compiles and the native launcher loads, whatever is installed; where all that it needs is, a kernel runs.
TRY_CLIENT = """
import importlib.machinery, importlib.util, pathlib, sys
site = sys.argv[1]
files = list(pathlib.Path(site, "trun").rglob("*.py"))
assert len(files) > 20, files
for file in files:
    compile(file.read_bytes(), str(file), "exec", dont_inherit=True)
native = str(pathlib.Path(site, "trun/triton/_native.abi3.so"))
spec = importlib.util.spec_from_loader("_native", importlib.machinery.ExtensionFileLoader("_native", native))
spec.loader.exec_module(importlib.util.module_from_spec(spec))
if any(importlib.util.find_spec(name) is None for name in ("grpc", "google", "numpy", "ml_dtypes")):
    print("loads")
    sys.exit()
sys.path.insert(0, site)
import numpy, trun, trun.triton
with trun.connect(device="emulator:0") as session:
    x, out = numpy.arange(4096, dtype="float32"), session.zeros(4096)
    session.load("examples/kernels/vector_add.sm80.ptx")[(4,)](session.tensor(x), session.tensor(x), out, 4096)
    assert (out.numpy() == 2 * x).all()
print("runs")
"""


def pythons() -> list[str]:
    """That of the tests, and each of 3.10 to 3.13 that is in PATH or one of pyenv's, and starts."""
    folders = [*os.environ["PATH"].split(":"), *map(str, (Path.home() / ".pyenv/versions").glob("3.1*/bin"))]
    found = [sys.executable]
    for name in (f"python3.{minor}" for minor in range(10, 14)):
        for folder in folders:
            program = shutil.which(name, path=folder)
            if program and subprocess.run([program, "-c", ""], capture_output=True).returncode == 0:
                found.append(program)
                break
    return found


def test_the_wheel_is_for_every_python_that_is_here(box: Box) -> None:
    results = {python: box(python, "-c", TRY_CLIENT, box.site, PYTHONPATH="").strip() for python in pythons()}
    print(results)
    assert results[sys.executable] == "runs" and set(results.values()) <= {"loads", "runs"}, results


def test_an_adopted_triton_and_the_python_client_run_the_examples(box: Box) -> None:
    examples = sorted((box.bundle / "examples/python").glob("*.py"))
    assert len(examples) >= 7
    for example in examples:
        assert box("python", example).rstrip().endswith("right"), example


def test_the_quickstart_runs_from_the_bundle(box: Box) -> None:
    said = box("examples/quickstart.sh")
    assert "check" in said and "again, from the cache" in said


def test_the_comparison_of_devices_runs_from_the_bundle(box: Box) -> None:
    """Of one emulator with another, which must agree to the bit in everything; a GPU is put there by hand."""
    tests = ["-p", "no:cacheprovider", "-q", "tests/gpu", "-k", "not cubin and not softmax"]
    said = box(
        "python", "-m", "pytest", *tests, TRUN_CONFORMANCE_DEVICE="emulator:1", TRUN_TOOLCHAINS_DIR=str(TOOLCHAINS)
    )
    rows = [line.split() for line in said.splitlines() if line.endswith("the same bits")]
    assert ["scratch", "ptx", "the", "same", "bits"] in rows, said
    examples = [row for row in rows if row[1] in ("ttir", "ttgir", "llir", "ptx") and row[0] != "scratch"]
    assert len(examples) == 36, said


def test_kernels_compiled_elsewhere_are_found_after_an_import(box: Box, make_box: Any, tmp_path: Path) -> None:
    kernel = box.bundle / "examples/kernels/vector_add.ttir"
    box("trun-client", "compile", kernel, "--to", "ptx", "--target", "sm_80")
    box("trun-client", "cache", "export", tmp_path / "kernels.trun")
    other: Box = make_box()
    other("trun-client", "toolchains", "adopt", TOOLCHAINS / "3.9.0", "--name", "theirs")
    assert json.loads(other("trun-client", "cache", "import", tmp_path / "kernels.trun", "--json"))["imported"] >= 1
    found = json.loads(other("trun-client", "compile", kernel, "--to", "ptx", "--target", "sm_80", "--json"))
    assert found["kernel"]["cached"] is True, found
