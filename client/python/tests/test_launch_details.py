"""What a launch is told beside grid and arguments, through a real trund: the numbers on its emulator of sm_90, and what
the driver hears on the fake GPU (its kernel `told` prints that). Where a detail can be got wrong by metadata, it is.

TRUN_SOURCE_TOOLCHAINS names the versions, by default one of each way to launch: 3.2, 3.3, 3.4, 3.5 and 3.6 on.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any

import launch_kernels as k
import numpy as np
import pytest
import trun

VERSIONS = os.environ.get("TRUN_SOURCE_TOOLCHAINS", "3.2.0,3.3.1,3.4.0,3.5.1,3.6.0,3.9.0").split(",")
COOPERATIVE, CLUSTER, POLICY, DEPENDENT = "2", "4", "5", "6"  # of CUlaunchAttributeID


@pytest.fixture(scope="module")
def gpu(daemon_with_gpu: str) -> Iterator[trun.Session]:
    with trun.connect(daemon_with_gpu, device="cuda:0") as session:
        yield session


@pytest.fixture(scope="module")
def live(daemon_with_gpu: str) -> Iterator[trun.Session]:
    with trun.connect(daemon_with_gpu, device="emulator:0") as session:
        yield session


@pytest.fixture(scope="module", params=VERSIONS)
def tc(request: pytest.FixtureRequest, live: trun.Session) -> str:
    if request.param not in [toolchain.name for toolchain in live.toolchains()]:
        pytest.skip(f"Triton {request.param} is not installed")
    return str(request.param)


def minor(tc: str) -> int:
    return int(tc.split(".")[1])


def needs(tc: str, version: int) -> None:
    if minor(tc) < version:
        pytest.skip(f"begins with Triton 3.{version}")


def values(*shape: int, seed: int = 1) -> Any:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def heard(gpu: trun.Session, tc: str, grid: tuple[int, ...] = (3,), **options: Any) -> dict[str, Any]:
    out = gpu.zeros(256, dtype="int32")
    kernel = k.told[grid](out, 5, toolchain=tc, session=gpu, **options)
    assert kernel.last_result is not None
    return dict(json.loads(kernel.last_result.printed))


# What the driver hears.


def test_a_plain_launch_has_no_attributes_and_the_hidden_parameters_of_its_version(gpu: trun.Session, tc: str) -> None:
    launch = heard(gpu, tc, (3, 2), num_warps=2)
    assert (launch["kernel"], launch["grid"], launch["block"]) == ("told", [3, 2, 1], [64, 1, 1])
    assert launch["attributes"] == {}
    hidden = {2: 0, 3: 1, 4: 1}.get(minor(tc), 2)
    # A pointer, an int (and its padding where a pointer follows), then the scratch pointers: null where none is needed.
    size = 12 if hidden == 0 else 16 + 8 * hidden
    parameters = bytes.fromhex(launch["parameters"])
    assert len(parameters) == size and parameters[8:12] == (5).to_bytes(4, "little")
    assert not any(parameters[16:])


def test_a_cooperative_grid_is_told_to_the_driver(gpu: trun.Session, tc: str) -> None:
    needs(tc, 3)
    assert heard(gpu, tc, launch_cooperative_grid=True)["attributes"] == {COOPERATIVE: 1}


def test_a_dependent_launch_is_told_to_the_driver(gpu: trun.Session, tc: str) -> None:
    needs(tc, 4)
    assert heard(gpu, tc, launch_pdl=True)["attributes"] == {DEPENDENT: 1}


def test_a_cluster_multiplies_the_grid_and_spreads(gpu: trun.Session, tc: str) -> None:
    cluster = {"cluster_dims": (2, 1, 1)} if minor(tc) < 6 else {}
    launch = heard(gpu, tc, (3, 2), num_ctas=2, **cluster)
    assert launch["grid"] == [6, 2, 1]
    assert launch["attributes"] == {CLUSTER: [2, 1, 1], POLICY: 1}


# What the numbers say.


def from_ptx(kernel: trun.Kernel, **changed: Any) -> dict[str, Any]:
    return {"ptx_src": kernel.asm["ptx"], "metadata_json": {**kernel.metadata, **changed}}


def test_programs_of_a_cooperative_grid_wait_for_each_other(live: trun.Session, tc: str) -> None:
    needs(tc, 3)
    out = live.zeros(24, dtype="int32")
    k.barrier[(24,)](live.zeros(1, dtype="int32"), out, PROGRAMS=24, toolchain=tc, launch_cooperative_grid=True)
    np.testing.assert_array_equal(out.numpy(), 24)


def test_a_chain_of_dependent_launches_sees_what_the_one_before_wrote(live: trun.Session, tc: str) -> None:
    needs(tc, 5)  # 3.4's own gdc_wait cannot be called
    tensors = [live.tensor(values(256)), live.zeros(256)]
    for step in range(3):
        kernel = k.dependent[(2,)](tensors[step % 2], tensors[1 - step % 2], BLOCK=128, toolchain=tc, launch_pdl=True)
    assert "griddepcontrol.wait" in str(kernel.asm["ptx"])
    np.testing.assert_allclose(tensors[1].numpy(), values(256) + 3, rtol=1e-6)


def test_a_cluster_of_two_runs_every_program_once(live: trun.Session, tc: str) -> None:
    x, count = live.tensor(values(1024)), live.zeros(4, dtype="int32")
    cluster = {"cluster_dims": (2, 1, 1)} if minor(tc) < 6 else {}
    given = {"BLOCK": 256, "toolchain": tc}
    out = live.zeros(1024)
    kernel = k.spread[(4,)](x, out, count, num_ctas=2, **cluster, **given)
    np.testing.assert_array_equal(out.numpy(), values(1024) * 2)
    np.testing.assert_array_equal(count.numpy(), 1)
    if minor(tc) < 6:
        return  # their PTX does not say how large its cluster is
    with pytest.raises(trun.TrunError, match="num_ctas|cluster"):
        k.spread[(4,)](x, out, count, **given, **from_ptx(kernel, num_ctas=1))


def test_more_than_48_kib_of_shared_memory_and_less_than_it_needs(live: trun.Session, tc: str) -> None:
    n, inner = 128, 256
    a, b = values(n, inner).astype(np.float16), values(inner, n, seed=2).astype(np.float16)
    arguments = (live.tensor(a), live.tensor(b))
    given = {"N": n, "BLOCK_K": 64, "toolchain": tc}
    out = live.zeros((n, n))
    kernel = k.staged_dot[(1,)](*arguments, out, inner, num_stages=4, num_warps=4, **given)
    assert kernel.shared_bytes > 48 << 10
    np.testing.assert_allclose(out.numpy(), a.astype(np.float32) @ b.astype(np.float32), rtol=1e-3, atol=1e-2)
    with pytest.raises(trun.KernelFaultError, match="shared memory"):
        k.staged_dot[(1,)](*arguments, out, inner, **given, **from_ptx(kernel, shared=8192))
    with pytest.raises(trun.TrunError, match="shared"):
        k.staged_dot[(1,)](*arguments, out, inner, **given, **from_ptx(kernel, shared=1 << 20))


def test_too_much_shared_memory_is_one_error_from_source_ttir_and_ptx(live: trun.Session, tc: str) -> None:
    """It is the kernel's, whatever the level: not the metadata's, which nobody gave."""
    n, inner = 128, 640
    a, b = live.zeros((n, inner), dtype="float16"), live.zeros((inner, n), dtype="float16")
    out = live.zeros((n, n))
    given = {"N": n, "BLOCK_K": 128, "toolchain": tc}
    kernel = k.staged_dot[(1,)](a, b, out, inner, num_stages=2, **given)
    with pytest.raises(trun.errors.LaunchShapeError) as caught:
        k.staged_dot[(1,)](a, b, out, inner, num_stages=6, **given)
    needed = int(caught.value.details["bytes"])
    said = (
        f"kernel 'staged_dot' needs {needed} bytes of shared memory for one block; sm_90 has at most 232448: "
        "compile it with smaller blocks or fewer stages (num_stages)"
    )
    assert needed > 232448 and caught.value.message == said
    assert "metadata=" not in str(caught.value), "a hint that leads astray"
    for level, options, metadata in (
        ("ttir", {"num_stages": 6}, None),
        ("ptx", {}, {**kernel.metadata, "shared": needed}),
    ):
        source = str(kernel.asm[level]).encode()
        with pytest.raises(trun.errors.LaunchShapeError) as caught:
            live.load(source, level=level, options=options, metadata=metadata, toolchain=tc)
        assert caught.value.message == said and caught.value.details["limit"] == "232448"
        assert "metadata=" not in str(caught.value)


def test_a_block_of_a_warp_specialised_kernel_has_the_warps_of_all_its_parts(live: trun.Session, tc: str) -> None:
    needs(tc, 6)
    x, out = live.tensor(values(256)), live.zeros(256)
    kernel = k.specialised[(1,)](x, out, BLOCK=128, num_warps=4, toolchain=tc)
    np.testing.assert_array_equal(out.numpy(), np.concatenate([values(256)[:128] + 1, values(256)[128:] * 2]))
    assert kernel.metadata["num_warps"] == 8 and ".reqntid 256" in str(kernel.asm["ptx"])
    with pytest.raises(trun.TrunError, match="num_warps"):
        k.specialised[(1,)](x, out, BLOCK=128, toolchain=tc, **from_ptx(kernel, num_warps=4))


def test_host_made_descriptors_also_from_a_bare_ttgir(live: trun.Session, tc: str) -> None:
    needs(tc, 4)
    x = values(64, 48)
    source = live.tensor(x)

    def run(**file: Any) -> trun.Kernel:
        target = live.zeros((64, 48))
        tiles = [trun.TensorDescriptor(t, block_shape=(16, 16)) for t in (source, target)]
        kernel: trun.Kernel = k.host_tiles[(4, 3)](*tiles, BLOCK=16, toolchain=tc, **file)
        np.testing.assert_array_equal(target.numpy(), x + 1)
        return kernel

    kernel = run()
    assert len(kernel.metadata["tensordesc_meta"]) == 2 and "cp.async.bulk.tensor" in str(kernel.asm["ptx"])
    assert run(ttgir_src=kernel.asm["ttgir"]).metadata["tensordesc_meta"] == kernel.metadata["tensordesc_meta"]
    run(**from_ptx(kernel))
    with pytest.raises(trun.TrunError, match="its signature has|tensordesc_meta"):
        run(**from_ptx(kernel, tensordesc_meta=[]))


def test_descriptors_made_on_the_device_have_scratch_memory_also_from_a_bare_ttgir(live: trun.Session, tc: str) -> None:
    needs(tc, 4)
    x = values(64, 48)

    def run(**file: Any) -> trun.Kernel:
        target = live.zeros((64, 48))
        kernel: trun.Kernel = k.device_tiles[(4, 3)](live.tensor(x), target, 64, 48, BLOCK=16, toolchain=tc, **file)
        np.testing.assert_array_equal(target.numpy(), x + 1)
        return kernel

    kernel = run()
    assert kernel.metadata["global_scratch_size"] == 256
    run(ttgir_src=kernel.asm["ttgir"])
    run(**from_ptx(kernel))
    # A program that gets the half of what it needs writes past its end, or over the next one's.
    with pytest.raises((trun.KernelFaultError, AssertionError)):
        run(**from_ptx(kernel, global_scratch_size=0))
    metadata = {key: value for key, value in kernel.metadata.items() if key != "global_scratch_size"}
    with pytest.raises(trun.errors.MetadataError, match="global_scratch_size"):
        run(ptx_src=kernel.asm["ptx"], metadata_json=metadata)


def test_profile_scratch_is_memory_of_the_grid(gpu: trun.Session, tc: str) -> None:
    needs(tc, 5)
    cubin = k.told.warmup(gpu.zeros(256, dtype="int32"), 5, toolchain=tc, session=gpu)
    metadata = {**cubin.metadata, "profile_scratch_size": 64, "profile_scratch_align": 128}
    file = {"cubin_src": cubin.asm["cubin"], "metadata_json": metadata}
    kernel = k.told[(3,)](gpu.zeros(256, dtype="int32"), 5, session=gpu, **file)
    assert kernel.last_result is not None
    parameters = bytes.fromhex(json.loads(kernel.last_result.printed)["parameters"])
    scratch, profile = (int.from_bytes(parameters[at : at + 8], "little") for at in (16, 24))
    assert scratch == 0 and profile != 0 and profile % 128 == 0
