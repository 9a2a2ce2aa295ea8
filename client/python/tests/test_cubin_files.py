"""cubin_dir= and cubin_src=: on a GPU (the fake driver of the C++ tests, which knows `fill` by its name), and refused
on an emulator. What a cubin computes is shown on a real GPU by tests/gpu.
"""

from __future__ import annotations

import json
import logging
import pathlib

import numpy as np
import pytest
import source_kernels as k
import trun


@pytest.fixture(scope="module")
def folder(daemon_with_gpu: str, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """fill.cubin and fill.json, as a Triton cache folder has them."""
    made = tmp_path_factory.mktemp("kernels")
    with trun.connect(daemon_with_gpu, device="cuda:0") as session:
        kernel = k.fill.warmup(session.zeros(128, dtype="int32"), 5, BLOCK=128, num_warps=4)
        (made / "fill.cubin").write_bytes(kernel.asm["cubin"])
        (made / "fill.json").write_text(json.dumps(kernel.metadata))
    return made


def test_a_cubin_on_an_emulator_is_refused_with_the_reason(daemon_with_gpu: str, folder: pathlib.Path) -> None:
    with trun.connect(daemon_with_gpu, device="emulator:0") as session:
        out = session.zeros(128, dtype="int32")
        with pytest.raises(trun.errors.UnsupportedLevelError, match="cannot run a cubin") as caught:
            k.fill[(1,)](out, 5, BLOCK=128, cubin_dir=folder)
        assert caught.value.code == "FAILED_PRECONDITION" and not out.numpy().any()


def test_a_cubin_whose_metadata_contradicts_it_is_refused(daemon_with_gpu: str, folder: pathlib.Path) -> None:
    metadata = json.loads((folder / "fill.json").read_text())
    cubin = (folder / "fill.cubin").read_bytes()
    with trun.connect(daemon_with_gpu, device="cuda:0") as session:
        out = session.zeros(128, dtype="int32")
        for changed, words in (({"name": "other"}, "other"), ({"shared": 1 << 30}, "shared")):
            with pytest.raises(trun.TrunError, match=words):
                k.fill[(1,)](out, 5, BLOCK=128, cubin_src=cubin, metadata_json={**metadata, **changed})
        with pytest.raises(trun.TrunError, match="cubin"):
            k.fill[(1,)](out, 5, BLOCK=128, cubin_src=cubin[:200], metadata_json=metadata)
        assert not out.numpy().any()


def test_a_folder_with_a_cubin_is_launched_without_any_compile(
    daemon_with_gpu: str, folder: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    with trun.connect(daemon_with_gpu, device="cuda:0") as session:
        for given in ({"cubin_dir": folder}, {"cubin_dir": folder.parent}):
            out = session.zeros(256, dtype="int32")
            with caplog.at_level(logging.INFO, "trun"):
                kernel = k.fill[(2,)](out, 5, BLOCK=128, **given)
            np.testing.assert_array_equal(out.numpy(), np.arange(256) + 5)
            assert list(kernel.asm) == ["cubin"] and kernel.metadata["num_warps"] == 4
    assert "kernel cache hit: fill" in caplog.text


@pytest.mark.parametrize("kind", ["src", "dir"])
def test_a_number_that_was_compiled_into_a_cubin_as_1_and_comes_as_2_is_named(
    daemon_with_gpu: str, tmp_path: pathlib.Path, kind: str
) -> None:
    with trun.connect(daemon_with_gpu, device="cuda:0") as session:
        out = session.zeros(128, dtype="int32")
        made = k.fill.warmup(out, 1, BLOCK=128, num_warps=4)
        cubin = made.asm["cubin"]
        assert isinstance(cubin, bytes) and len(made.signature) == 1
        (tmp_path / "fill.cubin").write_bytes(cubin)
        (tmp_path / "fill.json").write_text(json.dumps(made.metadata))
        file = {"cubin_dir": tmp_path} if kind == "dir" else {"cubin_src": cubin, "metadata_json": made.metadata}
        with pytest.raises(
            trun.errors.ArgumentError, match=r"'addend' is 2.*compiled in \(as 1\).*made for this value"
        ):
            k.fill[(1,)](out, 2, BLOCK=128, **file)
        assert not out.numpy().any()
        kernel = k.fill.warmup(out, 1, BLOCK=128, num_warps=4)
        assert kernel.cache_key == made.cache_key
