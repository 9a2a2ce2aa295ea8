"""Staging areas through a real trund on the fake CUDA driver: bad requests, clients that go away, large copies."""

from __future__ import annotations

import json
import mmap
import os
import pathlib
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest
import trun
from trun._descriptors import is_sealed, receive_descriptors
from trun.v1 import device_pb2, session_pb2, staging_pb2

ROOT = pathlib.Path(__file__).resolve().parents[3]
BUILD = pathlib.Path(os.environ.get("TRUN_BUILD_DIR", ROOT / "build" / "dev"))
FAKE_DRIVER = BUILD / "tests" / "libtrun_fake_cuda.so"
TO, FROM = staging_pb2.TRANSFER_DIRECTION_TO_TENSOR, staging_pb2.TRANSFER_DIRECTION_FROM_TENSOR
MIB = 1 << 20
HUGE = (1 << 64) - 1


def start(folder: pathlib.Path, *flags: str) -> subprocess.Popen[str]:
    socket = folder / "trund.sock"
    command: list[str | pathlib.Path] = [BUILD / "bin" / "trund", "--socket", socket, "--cache-dir", folder / "cache"]
    command += ["--emulator", "sm_90", "--toolchains-dir", folder / "toolchains", "--libcuda", FAKE_DRIVER]
    command += ["--log-file", folder / "trund.log", *flags]
    daemon = subprocess.Popen(
        command,
        env={"PATH": "/usr/bin:/bin", "HOME": str(folder), "XDG_RUNTIME_DIR": str(folder)},
        text=True,
    )
    deadline = time.monotonic() + 30
    while not socket.exists():
        assert daemon.poll() is None and time.monotonic() < deadline, "trund did not start"
        time.sleep(0.02)
    return daemon


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if not (BUILD / "bin" / "trund").exists() or not FAKE_DRIVER.exists():
        pytest.skip(f"{BUILD} has no trund, or no fake driver")
    folder = tmp_path_factory.mktemp("gpu")
    daemon = start(folder)
    yield f"unix:{folder}/trund.sock"
    daemon.terminate()
    assert daemon.wait(timeout=30) == 0


@pytest.fixture
def gpu(address: str) -> Iterator[trun.Session]:
    with trun.connect(address, "cuda:0") as session:
        yield session


class Area:
    """A staging area by the calls of the wire alone."""

    def __init__(self, session: trun.Session, nbytes: int) -> None:
        self.session = session
        request = staging_pb2.CreateStagingRequest(session=session.id, bytes=nbytes)
        self.made = session._call("StagingService.CreateStaging", request)
        (descriptor,) = receive_descriptors(session._transfers._descriptor_socket, self.made.token)
        assert is_sealed(descriptor)
        self.memory = mmap.mmap(descriptor, self.made.bytes)
        os.close(descriptor)

    def move(self, direction: int, *ranges: tuple[int, str, int, int], staging: str = "") -> None:
        request = staging_pb2.TransferRequest(
            session=self.session.id,
            staging=staging or self.made.staging,
            direction=direction,  # type: ignore[arg-type]
        )
        for at, tensor, to, nbytes in ranges:
            request.ranges.add(staging_offset=at, tensor=tensor, tensor_offset=to, bytes=nbytes)
        self.session._call("StagingService.Transfer", request)


def information(session: trun.Session) -> session_pb2.SessionInfo:
    listed = session._call("SessionService.ListSessions", session_pb2.ListSessionsRequest()).sessions
    found: session_pb2.SessionInfo = next(s for s in listed if s.session == session.id)
    return found


def devices(session: trun.Session) -> dict[str, device_pb2.DeviceInfo]:
    listed = session._call("DeviceService.ListDevices", device_pb2.ListDevicesRequest()).devices
    return {device.device: device for device in listed}


def test_requests_out_of_bounds_are_refused_and_harm_nothing(address: str, gpu: trun.Session) -> None:
    area = Area(gpu, 3 * MIB)
    assert area.made.bytes == 4 * MIB and area.made.unregistered_reason == ""
    tensor, freed = gpu.zeros(1024), gpu.zeros(1024)
    gone = freed.handle
    freed.free()
    with trun.connect(address, "cuda:0") as other:
        foreign = other.zeros(1024)
        for direction, ranges, code, reason in [
            (0, [(0, tensor.handle, 0, 16)], "INVALID_ARGUMENT", "ARGUMENT"),
            (9, [(0, tensor.handle, 0, 16)], "INVALID_ARGUMENT", "ARGUMENT"),
            (TO, [], "INVALID_ARGUMENT", "ARGUMENT"),
            (TO, [(0, tensor.handle, 0, 16)] * 1025, "INVALID_ARGUMENT", "ARGUMENT"),
            (TO, [(4 * MIB - 8, tensor.handle, 0, 16)], "OUT_OF_RANGE", "ARGUMENT"),
            (TO, [(HUGE, tensor.handle, 0, 16)], "OUT_OF_RANGE", "ARGUMENT"),
            (FROM, [(0, tensor.handle, 4096 - 8, 16)], "OUT_OF_RANGE", "ARGUMENT"),
            (FROM, [(0, tensor.handle, HUGE, HUGE)], "OUT_OF_RANGE", "ARGUMENT"),
            (TO, [(0, tensor.handle, 0, 16), (0, gone, 0, 16)], "NOT_FOUND", "HANDLE"),
            (TO, [(0, foreign.handle, 0, 16)], "NOT_FOUND", "HANDLE"),
            (TO, [(0, "no such tensor", 0, 16)], "NOT_FOUND", "HANDLE"),
        ]:
            with pytest.raises(trun.TrunError) as refused:
                area.move(direction, *ranges)
            assert (refused.value.code, refused.value.reason) == (code, reason), (direction, ranges[:2])
        with pytest.raises(trun.errors.HandleError):  # an area means nothing in another session
            Area(other, 1).move(TO, (0, foreign.handle, 0, 16), staging=area.made.staging)
    area.memory[:16] = bytes(range(16))
    area.move(TO, (0, tensor.handle, 100, 16))
    assert tensor.numpy().tobytes()[100:116] == bytes(range(16))
    assert information(gpu).executor_restarts == 0


def test_areas_of_no_bytes_or_too_many_and_on_the_emulator_are_refused(address: str, gpu: trun.Session) -> None:
    for nbytes in (0, HUGE):
        with pytest.raises(trun.errors.ArgumentError):
            Area(gpu, nbytes)
    with trun.connect(address, "emulator:0") as emulated, pytest.raises(trun.errors.UnsupportedTargetError):
        Area(emulated, MIB)


def test_a_token_gives_its_descriptor_once(gpu: trun.Session) -> None:
    area = Area(gpu, 1)
    with pytest.raises(trun.errors.HandleError):
        receive_descriptors(gpu._transfers._descriptor_socket, area.made.token)


def test_a_client_that_writes_while_the_daemon_copies_spoils_only_its_own_bytes(gpu: trun.Session) -> None:
    area = Area(gpu, 4 * MIB)
    tensor = gpu.zeros(MIB)
    stop = threading.Event()

    def scribble() -> None:
        value = 0
        while not stop.is_set():
            value = (value + 1) % 256
            area.memory[:] = bytes([value]) * (4 * MIB)

    scribbler = threading.Thread(target=scribble)
    scribbler.start()
    for _ in range(30):
        area.move(TO, (0, tensor.handle, 0, 4 * MIB))
        area.move(FROM, (0, tensor.handle, 0, 4 * MIB))
    stop.set()
    scribbler.join()
    area.memory[:] = b"e" * (4 * MIB)
    area.move(TO, (0, tensor.handle, 0, 4 * MIB))
    assert tensor.numpy().tobytes() == b"e" * (4 * MIB)
    assert information(gpu).executor_restarts == 0


def test_a_client_that_is_killed_in_a_copy_costs_its_own_session_only(address: str, gpu: trun.Session) -> None:
    program = """
import sys, numpy as np, trun
with trun.connect(sys.argv[1], "cuda:0", lease=1.0) as session:
    pinned = session.pinned(64 << 20, np.uint8)
    tensor = session.tensor(pinned)
    print("ready", flush=True)
    while True:
        tensor.copy_from(pinned)
"""
    client = subprocess.Popen([sys.executable, "-c", program, address], stdout=subprocess.PIPE)
    assert client.stdout is not None and client.stdout.readline() == b"ready\n"
    client.kill()
    client.wait()
    client.stdout.close()
    values = np.arange(16 * MIB, dtype=np.int32)
    np.testing.assert_array_equal(gpu.tensor(values).numpy(), values)
    deadline = time.monotonic() + 20
    while len(devices(gpu)["cuda:0"].users) > 1:
        assert time.monotonic() < deadline, "its lease ran out long ago"
        time.sleep(0.1)


def test_arrays_travel_both_ways_also_over_the_death_of_the_executor(gpu: trun.Session) -> None:
    values = np.random.default_rng(3).integers(0, 1 << 30, 10 * MIB + 1, dtype=np.int32)
    tensor = gpu.tensor(values)
    np.testing.assert_array_equal(tensor.numpy(), values)
    pinned = gpu.pinned(values.shape, np.int32)
    tensor.numpy(out=pinned)
    np.testing.assert_array_equal(pinned, values)
    os.kill(information(gpu).executor_pid, 9)
    np.testing.assert_array_equal(tensor.numpy(), values)
    pinned += 1
    np.testing.assert_array_equal(gpu.tensor(pinned).numpy(), values + 1)
    assert information(gpu).executor_restarts == 1


def test_the_command_line_copies_large_arrays_both_ways(address: str, tmp_path: pathlib.Path) -> None:
    values = np.arange(3 * MIB, dtype=np.int32)
    np.save(tmp_path / "in.npy", values)
    metadata = {"name": "fill", "num_warps": 1, "num_ctas": 1, "shared": 0, "triton_version": "3.2.0"}
    metadata["target"] = {"backend": "cuda", "arch": 90, "warp_size": 32}
    cubin = ROOT / "server/device/cuda/testdata/conformance.sm_90.cubin"
    (tmp_path / "fill.cubin").write_bytes(cubin.read_bytes())
    (tmp_path / "fill.json").write_text(json.dumps(metadata))
    command: list[str | pathlib.Path] = [BUILD / "bin/trun-client", "run", tmp_path / "fill.cubin"]
    command += ["--device", "cuda:0", "--kernel-name", "fill", "--arg", f"0=@{tmp_path}/in.npy", "--arg", "1=7"]
    done = subprocess.run(
        [*command, "--save", f"0={tmp_path}/out.npy"],
        env={"TRUN_ADDRESS": address, "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    out = np.load(tmp_path / "out.npy")
    np.testing.assert_array_equal(out[:32], np.arange(32) + 7)
    np.testing.assert_array_equal(out[32:], values[32:])


def test_a_driver_that_registers_nothing_is_told_and_copies_all_the_same(tmp_path: pathlib.Path, address: str) -> None:
    executor = tmp_path / "executor"
    real = BUILD / "bin" / "trun-executor"
    executor.write_text(f'#!/bin/sh\nTRUN_FAKE_CUDA_FAIL=cuMemHostRegister_v2=801 exec "{real}" "$@"\n')
    executor.chmod(0o755)
    daemon = start(tmp_path, "--executor", str(executor))
    own = f"unix:{tmp_path}/trund.sock"
    try:
        with trun.connect(own, "cuda:0") as session:
            area = Area(session, MIB)
            assert "registering memory" in area.made.unregistered_reason
            device = devices(session)["cuda:0"]
            assert "registering memory" in device.pinning_refused and not device.unusable_reason
            tensor = session.zeros(16)
            area.memory[:64] = b"p" * 64
            area.move(TO, (0, tensor.handle, 0, 64))
            assert tensor.numpy().tobytes() == b"p" * 64
        for command in ("devices", "doctor"):
            told = subprocess.run(
                [BUILD / "bin/trun-client", command],
                env={"TRUN_ADDRESS": own, "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
                capture_output=True,
                text=True,
                timeout=60,
            )
            assert "registers no memory of the host" in told.stdout, told.stdout + told.stderr
    finally:
        daemon.terminate()
        daemon.wait(timeout=30)
