"""Passes one by one, of every version: the same artifacts, names that can be resumed after, and nothing left behind."""

from __future__ import annotations

from collections.abc import Iterator

import compatibility
import pytest
from versions import ALL, INSTALLED
from worker import Refused, Worker

MATMUL = compatibility.source_of("matmul_fp16")
# What the printers of two versions cannot show (docs/formats/passes.md).
CANNOT_RESUME_WHOLE = {("3.3.1", "llir/di_scope"), ("3.4.0", "llir/di_scope")}


@pytest.fixture(scope="module", params=INSTALLED)
def worker(request: pytest.FixtureRequest) -> Iterator[Worker]:
    started = Worker(request.param)
    yield started
    started.close()


def test_a_pass_that_is_none_is_an_error_that_lists_the_names(worker: Worker) -> None:
    with pytest.raises(Refused) as caught:
        worker.compile(MATMUL, "ttir", "ptx", 80, resume_after="ttgir/coalescence")
    assert caught.value.kind == "UNKNOWN_OPTION" and caught.value.details["pass"] == "ttgir/coalescence"
    assert "ttgir/coalesce," in caught.value.message and "llir/to_llvmir" in caught.value.message


def test_a_name_that_several_passes_have_does_not_choose_one(worker: Worker) -> None:
    with pytest.raises(Refused) as caught:
        worker.compile(MATMUL, "ttir", "ptx", 80, resume_after="canonicalizer")
    assert caught.value.kind == "UNKNOWN_OPTION" and "passes;" in caught.value.message


def test_a_file_is_of_the_level_that_its_pass_works_on(worker: Worker) -> None:
    with pytest.raises(Refused) as caught:
        worker.compile(MATMUL, "ttir", "ptx", 80, resume_after="llir/to_llvmir")
    assert caught.value.kind == "UNSUPPORTED_LEVEL" and "ttgir" in caught.value.message


def test_a_worker_that_showed_passes_compiles_as_before(worker: Worker) -> None:
    """The tap is taken out again, and the first compile of a process is like any later one."""
    fresh = Worker(worker.version)
    first = fresh.compile(MATMUL, "ttir", "cubin", 80)
    fresh.close()
    shown = worker.compile(MATMUL, "ttir", "cubin", 80, passes=True)
    after = worker.compile(MATMUL, "ttir", "cubin", 80)
    assert shown.artifacts == first.artifacts and after.artifacts == first.artifacts
    assert not after.passes


@pytest.mark.parametrize("arch", [80, 90] if ALL else [80])
def test_every_stage_can_be_resumed_and_gives_the_same_bytes(worker: Worker, arch: int) -> None:
    whole = worker.compile(MATMUL, "ttir", "cubin", arch, passes=True)
    names = [header["name"] for header, _ in whole.passes]
    assert len(names) == len(set(names)) > 30
    assert [header["index"] for header, _ in whole.passes] == list(range(len(names)))
    changed = [header for header, _ in whole.passes if header["changed"]]
    assert 10 < len(changed) < len(names)
    text = ""
    resumed = 0
    for position, (header, ir) in enumerate(whole.passes):
        assert bool(ir) == header["changed"]
        text = ir or text
        name = header["name"]
        is_pass = not name.endswith("/input") and "llvm." not in name
        # One in fifteen, and the last ones: the stage to LLIR is where printers fail.
        if not is_pass or (position % 15 and position < len(names) - 4):
            continue
        if (worker.version, name) in CANNOT_RESUME_WHOLE:
            continue
        level = "ttgir" if header["stage"] == "llir" else "ttir"
        again = worker.compile(text, level, "cubin", arch, resume_after=name, metadata=whole.metadata)
        assert again.artifacts["cubin"] == whole.artifacts["cubin"], name
        resumed += 1
    assert resumed >= 3
