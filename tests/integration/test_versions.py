"""Every level of every installed Triton, in one daemon: what goes in, what comes out, and what it computes."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import kernels
import numpy as np
import pytest
from conftest import BUILD, ROOT, TOOLCHAINS
from daemon import CallError, Daemon, Session

sys.path.insert(0, str(ROOT / "tests/toolchain"))
from compatibility import KERNELS, TARGETS, TARGETS_TITLE, VERSIONS, name, read_table

INSTALLED = [version for version in VERSIONS if (TOOLCHAINS / version / "bin/python").exists()]
LEVELS = ["ttir", "ttgir", "llir", "ptx", "cubin"]
NUMBERS = {"ttir": 3, "ttgir": 4, "llir": 5, "ptx": 6, "cubin": 7, "amdgcn": 8, "hsaco": 9, "passes": 10}
ARCHITECTURES = {80: "emulator:0", 90: "emulator:1"}


@pytest.fixture(scope="module")
def two_devices(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    folder = tmp_path_factory.mktemp("versions")
    running = Daemon(folder, BUILD, TOOLCHAINS, "--emulator", "sm_80", "--emulator", "sm_90")
    running.start()
    yield running
    running.stop()


@pytest.fixture
def session(two_devices: Daemon) -> Iterator[Session]:
    opened = two_devices.open_session(device="emulator:0")
    yield opened
    opened.close()


def random(*shape: int, dtype: Any = np.float32, seed: int = 1) -> Any:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def fetch(session: Session, kernel: str, level: str) -> bytes:
    from trun.v1 import compile_pb2

    request = compile_pb2.GetArtifactRequest(session=session.id, kernel=kernel, level=NUMBERS[level])
    return b"".join(part.data for part in session.daemon.compiler.GetArtifact(request, timeout=60))


def instructions(ptx: bytes) -> list[str]:
    """PTX without its line information: what a file that was read again says of inlined places is its own."""
    lines = ptx.decode().split("\t.section\t.debug", 1)[0].splitlines()
    kept = (line.split("//", 1)[0].rstrip() for line in lines)
    return [line for line in kept if line and not line.strip().startswith((".loc", ".file", "$L__tmp"))]


def check_vector_add(session: Session, kernel: str) -> None:
    n = 3001
    x, y = random(n), random(n, seed=2)
    out = session.tensor(np.zeros(n, np.float32))
    session.launch(kernel, (math.ceil(n / 1024),), session.tensor(x), session.tensor(y), out, n)
    assert np.array_equal(np.frombuffer(session.read(out.tensor), np.float32), x + y)


def check_layer_norm(session: Session, kernel: str) -> None:
    rows, columns = 3, 501
    x, w, b = random(rows, columns), random(columns, seed=2), random(columns, seed=3)
    y, mean, rstd = (session.tensor(np.zeros(shape, np.float32)) for shape in ((rows, columns), rows, rows))
    arguments = [session.tensor(x), y, session.tensor(w), session.tensor(b), mean, rstd, columns, columns, 1e-5]
    session.launch(kernel, (rows,), *arguments)
    expected = (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-5) * w + b
    got = np.frombuffer(session.read(y.tensor), np.float32).reshape(rows, columns)
    assert np.abs(got - expected).max() < 2e-5


def check_matmul(session: Session, kernel: str) -> None:
    m, n, k = 77, 96, 112
    a, b = random(m, k, dtype=np.float16), random(k, n, dtype=np.float16, seed=2)
    out = session.tensor(np.zeros((m, n), np.float16))
    grid = (math.ceil(m / 64), math.ceil(n / 64))
    session.launch(kernel, grid, session.tensor(a), session.tensor(b), out, m, n, k, k, n, n)
    got = np.frombuffer(session.read(out.tensor), np.float16).reshape(m, n).astype(np.float32)
    assert np.abs(got - a.astype(np.float32) @ b.astype(np.float32)).max() < 5e-2


CHECKS = {"vector_add": check_vector_add, "layer_norm": check_layer_norm, "matmul_fp16": check_matmul}


@pytest.mark.parametrize("arch", list(ARCHITECTURES))
@pytest.mark.parametrize("version", INSTALLED)
def test_each_level_goes_in_and_each_later_one_comes_out(two_devices: Daemon, version: str, arch: int) -> None:
    """And whatever goes in computes the same on the emulator."""
    session = two_devices.open_session(device=ARCHITECTURES[arch])
    for kernel, check in CHECKS.items():
        first = session.compile(kernels.example(f"{kernel}.ttir"), "ttir", toolchain=version, last_level=7)
        assert first.toolchain == version and first.info.target == f"cuda:{arch}:32"
        made = {level: fetch(session, first.kernel, level) for level in LEVELS}
        assert made["cubin"][:4] == b"\x7fELF"
        check(session, first.kernel)
        metadata = first.info.metadata_json
        for i, level in enumerate(LEVELS[1:-1], 1):
            again = session.compile(made[level], level, toolchain=version, last_level=7, metadata_json=metadata)
            for later in LEVELS[i + 1 :]:
                assert len(fetch(session, again.kernel, later)) > 100, f"{kernel} from {level}: no {later}"
            ptx = made[level] if level == "ptx" else fetch(session, again.kernel, "ptx")
            assert instructions(ptx) == instructions(made["ptx"]), f"{kernel} from {level}: other instructions"
            check(session, again.kernel)
    session.close()


@pytest.mark.parametrize("version", INSTALLED)
def test_every_cell_of_the_page_of_targets_holds(session: Session, version: str) -> None:
    """What can be compiled is; what cannot is refused with the reason, and costs no worker."""
    page = read_table(TARGETS_TITLE)
    for target in TARGETS:
        cell = page[version, name(target)]
        outcomes = []
        for kernel in KERNELS:
            last = 7 if isinstance(target, int) else 9
            text = kernels.example(f"{kernel}.ttir")
            try:
                session.compile(text, "ttir", toolchain=version, target=name(target), last_level=last)
                outcomes.append("")
            except CallError as error:
                outcomes.append(error.reason)
                assert error.code == grpc.StatusCode.FAILED_PRECONDITION, error
        expected = "yes" if not any(outcomes) else "no" if all(outcomes) else "partly"
        assert cell == expected, (version, target, outcomes)
        if cell == "no":
            assert set(outcomes) == {"UNSUPPORTED_TARGET"}, "known beforehand"
    assert not any("crash" in line for line in (session.daemon.folder / "trund.log").read_text().splitlines())


def test_a_file_is_compiled_by_the_version_of_its_metadata(session: Session) -> None:
    for version in INSTALLED[:: max(1, len(INSTALLED) // 3)]:
        made = session.compile(kernels.example("vector_add.ttir"), "ttir", toolchain=version)
        metadata = json.loads(made.info.metadata_json)
        again = session.compile(fetch(session, made.kernel, "ttgir"), "ttgir", metadata_json=json.dumps(metadata))
        assert again.toolchain == version
        assert version in again.toolchain_reason


def test_a_file_without_metadata_goes_to_the_newest_that_takes_it_and_that_is_remembered(session: Session) -> None:
    old = [version for version in INSTALLED if version < "3.3"]
    if not old:
        pytest.skip("no Triton up to 3.2 is installed")
    made = session.compile(kernels.example("layer_norm.ttir"), "ttir", toolchain=old[0])
    ttgir = fetch(session, made.kernel, "ttgir")
    first = session.compile(ttgir, "ttgir")
    assert first.toolchain == old[-1] and "triton_gpu" in first.toolchain_reason
    assert session.compile(ttgir, "ttgir").cached


def test_amd_kernels_are_compiled_and_not_run(session: Session) -> None:
    if INSTALLED[-1] < "3.5":
        pytest.skip("no Triton from 3.5 on is installed")
    made = session.compile(kernels.example("vector_add.ttir"), "ttir", target="gfx942")
    assert made.info.target == "hip:gfx942:64"
    assert fetch(session, made.kernel, "hsaco")[:4] == b"\x7fELF"
    assert b"amdgcn" in fetch(session, made.kernel, "amdgcn")
    n = 8
    arguments = [session.tensor(np.zeros(n, np.float32)) for _ in range(3)]
    with pytest.raises(CallError) as caught:
        session.launch(made.kernel, (1,), *arguments, n)
    assert caught.value.code == grpc.StatusCode.FAILED_PRECONDITION
    assert caught.value.reason == "UNSUPPORTED_LEVEL"


@pytest.mark.parametrize("version", INSTALLED)
def test_passes_are_recorded_and_resumed_through_the_daemon(session: Session, version: str) -> None:
    text = kernels.example("transpose.ttir")
    plain = session.compile(text, "ttir", toolchain=version)
    events = session.compile_events(text, "ttir", toolchain=version, record_passes=True)
    seen = [event.pass_done for event in events if event.HasField("pass_done")]
    made = events[-1].kernel
    assert not made.cached and made.cache_key != plain.cache_key
    record = fetch(session, made.kernel, "passes")
    assert record.startswith(b"TRUNPASS") and len(seen) > 30
    assert fetch(session, made.kernel, "ptx") == fetch(session, plain.kernel, "ptx")
    again = session.compile(text, "ttir", toolchain=version, record_passes=True)
    assert again.cached and fetch(session, again.kernel, "passes") == record
    with pytest.raises(CallError) as caught:
        session.compile(text, "ttir", toolchain=version, resume_after_pass="ttgir/nothing")
    assert caught.value.reason == "UNKNOWN_OPTION" and "ttgir/coalesce" in caught.value.message


def test_a_compile_to_machine_code_tells_what_ptxas_said(session: Session) -> None:
    for version in INSTALLED:
        made = session.compile(kernels.example("matmul_fp16.ttir"), "ttir", toolchain=version, last_level=7)
        resources = json.loads(made.info.metadata_json)["ptxas_resources"]
        assert 32 <= resources["registers"] <= 255 and resources["spill_store_bytes"] == 0, version


def test_trun_client_compares_versions(two_devices: Daemon) -> None:
    command = [BUILD / "bin/trun-client", "--address", f"unix:{two_devices.socket}", "--json", "matrix"]
    command += [ROOT / "examples/kernels/vector_add.ttir", "--arch", "sm_80,sm_90,sm_100", "--grid", "4"]
    command += [
        "-a",
        "0=f32[4096]:randn(seed=1)",
        "-a",
        "1=f32[4096]:randn(seed=2)",
        "-o",
        "2=f32[4096]",
        "-a",
        "3=4096",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    cells = {(cell["version"], cell["arch"]): cell for cell in json.loads(done.stdout)["cells"]}
    assert len(cells) == 3 * len(INSTALLED)
    for version in INSTALLED:
        for arch in ("sm_80", "sm_90"):
            cell = cells[version, arch]
            assert cell["compiles"] and cell["registers"] > 8 and cell["instructions"]["ld.global"] >= 2, cell
            assert cell["outputs"] == cells[INSTALLED[0], "sm_80"]["outputs"], "adding is adding"
        impossible = cells[version, "sm_100"]
        assert impossible["compiles"] == (version >= "3.3")
        if version < "3.3":
            assert impossible["reason"] == "UNSUPPORTED_TARGET" and "3.3" in impossible["message"]


DIFFERENT = """import triton
import triton.language as tl

@triton.jit
def total(x_ptr, out_ptr, BLOCK: tl.constexpr):
    x = tl.load(x_ptr + tl.arange(0, BLOCK))
    tl.store(out_ptr, tl.sum(x.to(tl.float32), axis=0) * WEIGHT)
"""


def test_trun_client_prints_what_versions_make_of_a_kernel(two_devices: Daemon, tmp_path: Path) -> None:
    """Letters: what triton.__version__ decides differs, so that outputs do."""
    file = tmp_path / "total.py"
    weight = "WEIGHT = tl.constexpr(2 if triton.__version__ < '3.5' else 3)\n"
    file.write_text(DIFFERENT.replace("\n\n@triton", f"\n{weight}\n@triton"))
    versions = [version for version in ("3.4.0", "3.6.0", "3.9.0") if version in INSTALLED]
    command = [BUILD / "bin/trun-client", "--address", f"unix:{two_devices.socket}", "matrix", f"{file}:total"]
    command += ["--versions", ",".join(versions), "--arch", "sm_80,sm_100", "--grid", "1"]
    command += ["-a", "x_ptr=f32[1024]:ones", "-o", "out_ptr=f32[1]", "-a", "BLOCK=1024"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    rows = [re.split(r"  +", line.strip()) for line in done.stdout.splitlines()]
    header = [title.lower() for title in rows[0]]
    assert header == [
        "triton",
        "arch",
        "compiles",
        "registers",
        "shared",
        "spills",
        "instr",
        "most of them",
        "time",
        "output",
    ]
    table = {(row[0], row[1]): dict(zip(header, row, strict=True)) for row in rows[1:] if row[0] in INSTALLED}
    assert set(table) == {(version, arch) for version in versions for arch in ("sm_80", "sm_100")}
    told = json.loads(subprocess.run([*command, "--json"], capture_output=True, text=True, timeout=120).stdout)["cells"]
    for cell in told:
        row = table[cell["version"], cell["arch"]]
        assert row["compiles"] == "yes" and row["registers"] == str(cell["registers"])
        assert row["instr"] == str(cell["instructions"]["total"])
        assert row["spills"] == str(cell["spill_store_bytes"] + cell["spill_load_bytes"])
        assert cell["shared_bytes"] > 0 and row["shared"].startswith(str(cell["shared_bytes"]))
        if cell["arch"] == "sm_80":
            assert row["output"] == ("A" if cell["version"] < "3.5" else "B")
            assert cell["time_us"] > 0 and re.fullmatch(r"[\d.]+ ?(µs|us|ms|s)", row["time"]), row
        else:
            assert (row["time"], row["output"]) == ("-", "no device of this architecture")
    assert "Equal letters: outputs that are equal bit for bit." in done.stdout
