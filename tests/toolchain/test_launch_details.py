"""What a launch must be told comes out of a compile from TTGIR: of the module, or of the metadata given with it.

Held against what each version's own triton.compile wrote (server/artifact/testdata).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from versions import INSTALLED
from worker import ROOT, Worker

RECORDED = ROOT / "server/artifact/testdata"
KERNELS = ["described", "scratched", "staged", "specialized", "clustered", "cooperative"]
# Of these nothing stands in a module: they are how the kernel is to be launched.
FROM_METADATA = ["launch_cooperative_grid", "launch_pdl", "cluster_dims"]
FROM_MODULE = ["name", "shared", "num_warps", "num_ctas", "tensordesc_meta", "tmem_size"]
FROM_MODULE += ["global_scratch_size", "global_scratch_align", "profile_scratch_size", "profile_scratch_align"]


@pytest.fixture(scope="module", params=INSTALLED)
def worker(request: pytest.FixtureRequest) -> Iterator[Worker]:
    started = Worker(request.param)
    yield started
    started.close()


def recorded(worker: Worker) -> dict[str, tuple[bytes, dict[str, Any]]]:
    folder = RECORDED / worker.version
    return {
        name: ((folder / f"{name}.ttgir").read_bytes(), json.loads((folder / f"{name}.json").read_text()))
        for name in KERNELS
        if (folder / f"{name}.ttgir").exists()
    }


def compile_from_ttgir(worker: Worker, source: bytes, wanted: dict[str, Any], metadata: Any) -> dict[str, Any]:
    made = worker.compile(source, "ttgir", "ptx", wanted["target"]["arch"], metadata=metadata)
    return json.loads(json.dumps(made.metadata))


def test_a_bare_ttgir_says_all_that_stands_in_it(worker: Worker) -> None:
    """tensordesc_meta too: without it host-made descriptors would be passed as the wrong parameters."""
    kernels = recorded(worker)
    assert len(kernels) >= (6 if worker.version >= "3.4" else 1)
    for name, (source, wanted) in kernels.items():
        got = compile_from_ttgir(worker, source, wanted, None)
        for key in FROM_MODULE:
            if key in wanted:
                assert got.get(key) == wanted[key], (worker.version, name, key)
    if "described" in kernels:
        assert kernels["described"][1]["tensordesc_meta"][0]["block_size"] == [64, 64]


def test_what_stands_in_no_module_comes_from_the_metadata(worker: Worker) -> None:
    for name, (source, wanted) in recorded(worker).items():
        got = compile_from_ttgir(worker, source, wanted, wanted)
        for key in FROM_MODULE + FROM_METADATA:
            if key in wanted:
                assert got.get(key) == wanted[key], (worker.version, name, key)


def test_ptx_of_an_older_architecture_becomes_machine_code_of_the_target(worker: Worker) -> None:
    """With its metadata, whose `arch` is that of the file: the kernel's is the target's."""
    text = (ROOT / "examples/kernels/vector_add.ttir").read_bytes()
    old = worker.compile(text, "ttir", "ptx", 80)
    new = worker.compile(old.artifacts["ptx"], "ptx", "cubin", 90, metadata=old.metadata)
    assert new.metadata["target"]["arch"] == 90 and new.metadata.get("arch") in (None, "sm90")
    flags = int.from_bytes(new.artifacts["cubin"][48:52], "little")  # e_flags of the ELF header
    assert 90 in (flags & 0xFF, flags >> 8 & 0xFF), hex(flags)
