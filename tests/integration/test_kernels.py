"""The main job: every example kernel, from every level of every installed toolchain, against NumPy, at odd sizes."""

from __future__ import annotations

import json
import os
import re
import signal
from typing import Any

import kernels
import numpy as np
import pytest
from cases import CASES, Case, vector_add
from daemon import CallError, Daemon, Session, translated
from trun.v1 import admin_pb2, compile_pb2

TOOLCHAINS = ["3.9.0", "3.4.0"]
LEVELS = ["ttir", "ttgir", "llir", "ptx"]
NUMBERS = {"ttir": 3, "ttgir": 4, "llir": 5, "ptx": 6, "cubin": 7}


def run_and_check(session: Session, kernel: str, case: Case, *checks: str) -> None:
    handles: list[Any] = [session.tensor(a) if isinstance(a, np.ndarray) else a for a in case.arguments]
    session.launch(kernel, case.grid, *handles, checks=checks)
    for position, expected in case.expected.items():
        given = case.arguments[position]
        got = np.frombuffer(session.read(handles[position].tensor), dtype=given.dtype).reshape(given.shape)
        worst = float(np.abs(got.astype(np.float64) - expected).max())
        assert worst <= case.tolerance, f"argument {position} is off by {worst}"
        assert np.isfinite(got.astype(np.float64)).all()


def fetch(session: Session, kernel: str, level: str) -> bytes:
    request = compile_pb2.GetArtifactRequest(session=session.id, kernel=kernel, level=NUMBERS[level])
    return b"".join(part.data for part in session.daemon.compiler.GetArtifact(request, timeout=60))


@pytest.mark.parametrize("toolchain", TOOLCHAINS)
@pytest.mark.parametrize("name", list(CASES))
def test_every_kernel_from_every_level(session: Session, name: str, toolchain: str) -> None:
    """TTIR goes in; each later level that comes out goes in again, with the metadata it came with."""
    case = CASES[name][1]()
    text = kernels.example(f"{name}.ttir")
    first = session.compile(text, "ttir", toolchain=toolchain)
    assert first.info.name == CASES[name][0]
    run_and_check(session, first.kernel, case)
    for level in LEVELS[1:]:
        ir = fetch(session, first.kernel, level)
        again = session.compile(ir, level, toolchain=toolchain, metadata_json=first.info.metadata_json)
        run_and_check(session, again.kernel, case)


@pytest.mark.parametrize("toolchain", TOOLCHAINS)
@pytest.mark.parametrize("name", list(CASES))
def test_every_kernel_is_clean_under_every_check(session: Session, name: str, toolchain: str) -> None:
    made = session.compile(kernels.example(f"{name}.ttir"), "ttir", toolchain=toolchain)
    run_and_check(session, made.kernel, CASES[name][1](), "uninitialized", "races", "async")


@pytest.mark.parametrize("toolchain", TOOLCHAINS)
@pytest.mark.parametrize("name", ["matmul_fp16", "matmul_bf16", "matmul_tf32"])
def test_matmuls_are_tensor_core_code_behind_a_pipeline_of_copies(session: Session, name: str, toolchain: str) -> None:
    """What the other tests here run under these names: mma.sync, fed by cp.async in three stages."""

    def compiled(**options: str) -> tuple[str, list[int]]:
        made = session.compile(kernels.example(f"{name}.ttir"), "ttir", toolchain=toolchain, options=options)
        assert json.loads(made.info.metadata_json)["num_stages"] == int(options.get("num_stages", "3"))
        run_and_check(session, made.kernel, CASES[name][1](), "races", "async")
        text = fetch(session, made.kernel, "ptx").decode()
        return text, [int(ahead) for ahead in re.findall(r"cp\.async\.wait_group\s+(\d+);", text)]

    text, waits = compiled()
    kind = {"matmul_fp16": "f16", "matmul_bf16": "bf16", "matmul_tf32": "tf32"}[name]
    assert re.search(rf"mma\.sync\.aligned\.m16n8k(8|16)\.row\.col\.f32\.{kind}\.{kind}\.f32", text)
    assert "cp.async.cg.shared.global" in text and max(waits) == 2, "a tile's two copies may be under way"
    assert max(compiled(num_stages="2")[1]) == 0, "with a stage less all are waited for"


@pytest.mark.parametrize("toolchain", TOOLCHAINS)
def test_a_cubin_comes_out_as_an_artifact(session: Session, toolchain: str) -> None:
    made = session.compile(kernels.example("matmul.ttir"), "ttir", toolchain=toolchain, last_level=7)
    cubin = fetch(session, made.kernel, "cubin")
    assert cubin[:4] == b"\x7fELF" and len(cubin) > 1000


def test_ptx_of_another_triton_becomes_a_cubin_with_the_arguments_it_declares(session: Session) -> None:
    """Not with the scratch pointers that the assembling Triton would have added, had it made the file."""
    given = kernels.metadata("store", triton_version="3.2.0")
    made = session.compile(kernels.STORE, "ptx", metadata_json=given, last_level=7, toolchain="3.9.0")
    assert len(made.info.arguments) == 2
    assert json.loads(made.info.metadata_json)["triton_version"] == "3.2.0"


@pytest.mark.parametrize("toolchain", TOOLCHAINS)
def test_ttgir_needs_no_metadata(session: Session, toolchain: str) -> None:
    case = CASES["matmul"][1]()
    first = session.compile(kernels.example("matmul.ttir"), "ttir", toolchain=toolchain)
    again = session.compile(fetch(session, first.kernel, "ttgir"), "ttgir", toolchain=toolchain)
    run_and_check(session, again.kernel, case)


def test_options_come_with_the_request(session: Session) -> None:
    case = CASES["matmul"][1]()
    for options in ({"num_warps": "8"}, {"num_warps": "1", "num_stages": "1"}, {"num_stages": "3"}):
        made = session.compile(kernels.example("matmul.ttir"), "ttir", options=options)
        metadata = json.loads(made.info.metadata_json)
        assert all(metadata[key] == int(value) for key, value in options.items())
        assert made.info.num_warps == int(options.get("num_warps", "4"))
        run_and_check(session, made.kernel, case)


def test_a_repeated_compile_is_a_hit_and_survives_a_restart(daemon: Daemon) -> None:
    text = kernels.example("vector_add.ttir") + "\n// kept over a restart\n"
    session = daemon.open_session()
    assert not session.compile(text, "ttir").cached
    first = session.compile(text, "ttir")
    assert first.cached
    session.close()
    assert daemon.stop() == 0
    daemon.start()
    session = daemon.open_session()
    second = session.compile(text, "ttir")
    assert second.cached and second.cache_key == first.cache_key
    run_and_check(session, second.kernel, vector_add(100))
    session.close()


def test_launches_never_look_into_the_cache(session: Session) -> None:
    """A kernel that was compiled is the session's: it runs, in a new executor too, when the cache has nothing left."""
    case = vector_add(100)
    kernel = session.compile(kernels.example("vector_add.ttir"), "ttir").kernel
    with translated():
        session.daemon.admin.EvictCacheEntries(admin_pb2.EvictCacheEntriesRequest(all=True, force=True), timeout=30)
    before = session.daemon.statistics()
    assert before.entries == 0
    for _ in range(50):
        run_and_check(session, kernel, case)
    os.kill(session.info().executor_pid, signal.SIGKILL)
    try:
        run_and_check(session, kernel, case)
    except CallError as lost:  # its end had not been noticed yet
        assert lost.reason == "EXECUTOR_LOST", str(lost)
        run_and_check(session, kernel, case)
    assert session.info().executor_restarts == 1
    after = session.daemon.statistics()
    for count in ("hits", "misses", "memory_hits", "negative_hits", "healed", "entries"):
        assert getattr(after, count) == getattr(before, count), count


def test_a_ttgir_that_two_files_share_is_assembled_once(session: Session) -> None:
    text = kernels.example("vector_add.ttir")
    session.compile(text + "\n// one\n", "ttir", toolchain="3.9.0")
    events = session.compile_events(text + "\n// two\n", "ttir", toolchain="3.9.0")
    done = {event.stage_done.level: event.stage_done.cached for event in events if event.HasField("stage_done")}
    assert done[NUMBERS["ttgir"]] is False
    assert done[NUMBERS["ptx"]] is True
