"""Tensor descriptors in im2col mode, from Gluon source to the emulator, against NumPy; what cannot be one says why."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import trun
from conftest import BUILD
from trun.gluon import language as gl

# The same cases are run on a GPU, from there.
sys.path.append(str(pathlib.Path(__file__).resolve().parents[3] / "tests/gpu"))

import im2col_kernels
from im2col_cases import CASES, Case

VERSIONS = os.environ.get("TRUN_SOURCE_TOOLCHAINS", "3.8.0,3.9.0").split(",")
CASE = CASES["3 x 3 with a padding of 1"]


@pytest.fixture(scope="module")
def live(daemon_with_gpu: str) -> Iterator[trun.Session]:
    with trun.connect(daemon_with_gpu, device="emulator:0") as session:
        yield session


@pytest.fixture(scope="module", params=VERSIONS)
def tc(request: pytest.FixtureRequest, live: trun.Session) -> str:
    if request.param not in [toolchain.name for toolchain in live.toolchains()]:
        pytest.skip(f"Triton {request.param} is not installed")
    if int(request.param.split(".")[1]) < 8:
        pytest.skip("begins with Triton 3.8")
    return str(request.param)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"lower_corner": (-1,)}, "an im2col lower corner of 1 offsets over a tensor of 4 dimensions: it has 2"),
        ({"lower_corner": (-129, 0)}, "an im2col lower corner of -129 .* it is -128 to 127"),
        ({"upper_corner": (0, 128)}, "an im2col upper corner of 128 .* it is -128 to 127"),
        ({"upper_corner": (-15, 0)}, "an im2col box without a pixel"),
        ({"element_strides": (1, 0, 1, 1)}, "an element stride of 0 .* it is 1 to 8"),
        ({"element_strides": (1, 9, 1, 1)}, "an element stride of 9 .* it is 1 to 8"),
        ({"element_strides": (1, 1, 1, 2)}, "an element stride of 2 between channels: it is 1"),
        ({"element_strides": (1, 1, 1)}, "3 element strides over a tensor of 4 dimensions"),
        (None, "is a descriptor of im2col mode: give the corners of its box too"),
    ],
)
def test_fields_that_no_map_can_have_are_refused_by_name(
    live: trun.Session, change: dict[str, Any] | None, says: str
) -> None:
    out = live.zeros((9, CASE.columns * CASE.pixels, CASE.channels), dtype="float16")
    kernel, _, _ = CASE.run(live)
    box = trun.Im2col((-1, -1), (-1, -1), (1, 1, 1, 1))
    bad = trun.TensorDescriptor(
        live.tensor(CASE.values()),
        block_shape=(64, 64),
        im2col=None if change is None else dataclasses.replace(box, **change),
    )
    with pytest.raises(trun.errors.ArgumentError, match=f"argument 0 .'x'.*{says}") as caught:
        kernel[(1,)](bad, out, -1, -1, 14, 9, 0, 256)  # ints of 1 are compiled in
    assert caught.value.details["argument"] == "0" and not out.numpy().any()


def test_a_tiled_descriptor_has_no_corners_and_an_older_triton_no_im2col(live: trun.Session) -> None:
    x = live.tensor(CASE.values())
    layout = gl.NVMMASharedLayout(swizzle_byte_width=128, element_bitwidth=16, rank=2)
    descriptor = trun.TensorDescriptor(x, block_shape=(64, 64), layout=layout, im2col=trun.Im2col((-1, -1), (-1, -1)))
    arguments: tuple[Any, ...] = (descriptor, live.zeros(1), (-1, -1), (14, 9), (1, 1), 1, 0, 256)
    for toolchain, says in (("3.7.1", "from Triton 3.8 on"), ("3.9.0", "without a layout")):
        if toolchain not in [t.name for t in live.toolchains()]:
            continue
        given = dataclasses.replace(descriptor, layout=None) if toolchain == "3.9.0" else descriptor
        with pytest.raises(trun.CompileError, match=f"argument x is an im2col tensor descriptor.*{says}"):
            im2col_kernels.unfold_2d[(1,)](
                given, *arguments[1:], PIXELS=64, CHANNELS=64, toolchain=toolchain, session=live
            )


@pytest.mark.parametrize("name", CASES)
def test_columns_are_those_of_numpy(live: trun.Session, tc: str, name: str) -> None:
    case: Case = CASES[name]
    kernel, x, out = case.run(live, tc)
    np.testing.assert_array_equal(out, case.expected(x))
    assert kernel.metadata["tensordesc_meta"][0]["is_im2col"] and ".im2col." in str(kernel.asm["ptx"])
    assert f"input_rank={len(case.shape)}" in str(kernel.signature)


def test_the_same_kernel_from_ttgir_and_from_ptx_with_every_check(live: trun.Session, tc: str) -> None:
    kernel, x, _ = CASE.run(live, tc)
    lower, upper = CASE.corners
    for level in ("ttgir", "ptx"):
        source = kernel.asm[level]
        source = source.encode() if isinstance(source, str) else source
        again = live.load(source, level=level, metadata=kernel.metadata, toolchain=tc)
        out = live.zeros((9, CASE.columns * CASE.pixels, CASE.channels), dtype="float16")
        descriptor = trun.TensorDescriptor(
            live.tensor(x), block_shape=(CASE.pixels, CASE.channels), im2col=trun.Im2col((lower,) * 2, (upper,) * 2)
        )
        arguments = (descriptor, out, lower, lower, *CASE.box, 0, CASE.columns * CASE.pixels)
        again[(CASE.columns, 3, 3)](*arguments, check="uninit,race,async")
        np.testing.assert_array_equal(out.numpy(), CASE.expected(x))


def test_the_command_line_takes_corners_and_says_where_they_are_missing(
    daemon_with_gpu: str, live: trun.Session, tmp_path: pathlib.Path
) -> None:
    client = BUILD / "bin" / "trun-client"
    if not client.exists():
        pytest.skip("trun-client is not built")
    kernel, x, _ = CASE.run(live)
    (tmp_path / "unfold.ttgir").write_text(str(kernel.asm["ttgir"]))
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "expected.npy", CASE.expected(x))
    numbers = ("-1", "-1", "14", "9", "0", "256")  # the box's corner and size, the first channel, all pixels
    command = [str(client), "--address", daemon_with_gpu, "run", str(tmp_path / "unfold.ttgir")]
    command += ["--device", "emulator:0", "--grid", "4,3,3", "-a", f"0=@{tmp_path}/x.npy", "-o", "1=f16[9,256,64]"]
    command += ["--expect", f"1={tmp_path}/expected.npy"]
    for position, number in enumerate(numbers, 2):
        command += ["-a", f"{position}={number}"]

    def run(*more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*command, *more], capture_output=True, text=True, check=False, timeout=60)

    without = run()
    assert without.returncode == 3 and "give the corners of its box too" in without.stderr, without.stderr
    wrong = run("--im2col", "0=-1,-1:-1,200")
    assert wrong.returncode == 3 and "an im2col upper corner of 200" in wrong.stderr, wrong.stderr
    unknown = run("--im2col", "7=-1,-1:-1,-1")
    assert unknown.returncode == 3 and "this argument is not" in unknown.stderr, unknown.stderr
    right = run("--im2col", "0=-1,-1:-1,-1")
    assert right.returncode == 0, right.stdout + right.stderr
    assert run("--im2col", "0=-1,-1:-1,-1:1,2,1,1").returncode not in (0, 3), "other numbers are noticed"
