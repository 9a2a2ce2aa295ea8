"""Devices: GPUs on the fake driver (tests/gpu does it on real ones), their health, and tensor maps by value."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest
from conftest import BUILD, ROOT, TOOLCHAINS
from daemon import CallError, Daemon, Session, wait_until
from trun.v1 import device_pb2, launch_pb2

FAKE_DRIVER = BUILD / "tests/libtrun_fake_cuda.so"
CUBINS = ROOT / "server/device/cuda/testdata"
ARTIFACTS = ROOT / "server/artifact/testdata"
METADATA = '{"name": "%s", "num_warps": 1, "num_ctas": 1, "shared": 0, "triton_version": "3.2.0", ' + (
    '"target": {"backend": "cuda", "arch": 90, "warp_size": 32}}'
)
UNKNOWN, SERVING, NOT_SERVING = 0, 1, 2


def health(daemon: Daemon, service: str) -> int:
    """grpc.health.v1 by hand: field 1 of the request is the name, field 1 of the response the status."""
    name = service.encode()
    assert daemon.channel is not None
    check = daemon.channel.unary_unary("/grpc.health.v1.Health/Check")
    try:
        return int(check(b"\x0a" + bytes([len(name)]) + name, timeout=30)[1])
    except grpc.RpcError as error:
        if error.code() == grpc.StatusCode.NOT_FOUND:
            return UNKNOWN  # nobody has looked yet
        raise


def devices(daemon: Daemon) -> dict[str, device_pb2.DeviceInfo]:
    listed = daemon.devices.ListDevices(device_pb2.ListDevicesRequest(), timeout=60)
    return {device.device: device for device in listed.devices}


# An executor of protocol version 4, as far as anybody hears of it: it answers the first frame with that number.
OLDER_EXECUTOR = """#!/usr/bin/python3
import socket, struct
trund = socket.socket(fileno=3)
(size,) = struct.unpack("<I", trund.recv(4, socket.MSG_WAITALL))
request = trund.recv(size, socket.MSG_WAITALL)
assert request[0] == 0x08 and request[1] < 0x80, request
hello = b"\\x08\\x04"
reply = request[:2] + b"\\x1a" + bytes([len(hello)]) + hello
trund.sendall(struct.pack("<I", len(reply)) + reply)
trund.recv(1)
"""


def test_an_executor_of_another_release_is_refused_with_what_to_do(tmp_path: Path) -> None:
    older = tmp_path / "trun-executor"
    older.write_text(OLDER_EXECUTOR)
    older.chmod(0o755)
    daemon = Daemon(tmp_path, BUILD, TOOLCHAINS, "--executor", str(older))
    daemon.start()
    with pytest.raises(CallError) as caught:
        daemon.open_session()
    assert caught.value.code == grpc.StatusCode.UNAVAILABLE, str(caught.value)
    assert "speaks version 4, not" in caught.value.message and "--executor" in caught.value.message
    assert "speaks version 4, not" in devices(daemon)["emulator:0"].unusable_reason
    assert daemon.stop() == 0


@pytest.fixture(scope="module")
def gpu_daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    daemon = Daemon(
        tmp_path_factory.mktemp("gpu"), BUILD, TOOLCHAINS, "--libcuda", str(FAKE_DRIVER), "--emulator", "sm_90"
    )
    daemon.start()
    yield daemon
    assert daemon.stop() == 0


@pytest.fixture
def gpu(gpu_daemon: Daemon) -> Iterator[Session]:
    session = gpu_daemon.open_session()
    yield session
    session.close()


def kernel(session: Session, file: str, name: str) -> str:
    cubin = (CUBINS / file).read_bytes()
    return session.compile(cubin, "cubin", kernel_name=name, metadata_json=METADATA % name).kernel


def test_a_gpu_that_was_asked_for_and_is_not_there_is_the_reason_not_to_start(tmp_path: Path) -> None:
    for flags in (["--devices", "cuda"], ["--devices", "cuda:0"], ["--devices", "emulator,cuda:7"]):
        ended = subprocess.run(
            [
                BUILD / "bin/trund",
                "--socket",
                tmp_path / "s",
                "--cache-dir",
                tmp_path / "c",
                "--toolchains-dir",
                TOOLCHAINS,
            ]
            + ["--libcuda", "/nonexistent/libcuda.so.1" if "7" not in flags[1] else FAKE_DRIVER, *flags],
            capture_output=True,
            text=True,
            timeout=60,
            env={"HOME": str(tmp_path)},
        )
        assert ended.returncode == 1
        assert "libcuda" in ended.stderr or "cuda:7" in ended.stderr, ended.stderr
    wrong = subprocess.run([BUILD / "bin/trund", "--devices", "gpu"], capture_output=True, text=True, timeout=60)
    assert wrong.returncode == 2 and "cuda:N" in wrong.stderr


def test_without_a_gpu_the_emulator_is_the_default_and_the_list_says_why(daemon: Daemon) -> None:
    if Path("/dev/nvidiactl").exists():
        pytest.skip("this machine has a GPU")
    listed = devices(daemon)
    assert listed["emulator:0"].is_default
    assert "/dev/nvidiactl" in listed["cuda"].unusable_reason
    with pytest.raises(CallError, match="cuda:0"):
        daemon.open_session(device="cuda:0")


def test_gpus_come_first_and_are_told_with_their_facts_and_users(gpu_daemon: Daemon, gpu: Session) -> None:
    device = devices(gpu_daemon)["cuda:0"]
    assert device.is_default and not device.unusable_reason
    assert device.name == "fake GPU 0" and device.target == "cuda:90:32" and device.clock_khz == 1980000
    assert device.driver.startswith("CUDA 13.0")
    assert [user.client_name for user in device.users] == ["tests"]
    assert device.users[0].executor_pid == gpu.info().executor_pid > 0
    assert health(gpu_daemon, "cuda:0") == SERVING
    assert health(gpu_daemon, "emulator:0") == SERVING


def doctor(daemon: Daemon) -> dict[str, dict[str, str]]:
    command = [BUILD / "bin/trun-client", "doctor", "--json", "--address", f"unix:{daemon.socket}", "--no-start"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode in (0, 6), done.stderr
    return {check["name"]: check for check in json.loads(done.stdout)["checks"]}


def test_doctor_names_a_gpu_its_architecture_and_the_drivers_version(gpu_daemon: Daemon) -> None:
    checks = doctor(gpu_daemon)
    assert checks["device cuda:0"]["verdict"] == "ok"
    assert checks["device cuda:0"]["found"].startswith("fake GPU 0, cuda:90:32, CUDA 13.0")
    assert checks["system"]["found"].startswith("Linux ") and checks["daemon"]["found"].startswith("trund ")
    assert checks["GPU driver"]["found"]


def test_tensors_and_launches_on_a_gpu(gpu: Session) -> None:
    fill = kernel(gpu, "conformance.sm_90.cubin", "fill")
    data = np.arange(3_000_001, dtype=np.int32)
    tensor = gpu.tensor(data)
    assert gpu.read(tensor.tensor) == data.tobytes()
    gpu.launch(fill, (4,), tensor, 7)
    got = np.frombuffer(gpu.read(tensor.tensor), dtype=np.int32)
    assert np.array_equal(got[:128], np.arange(128) + 7) and np.array_equal(got[128:], data[128:])


HAND_WRITTEN = """.version 7.0
.target sm_75
.address_size 64
.visible .entry add(.param .u64 x, .param .u64 y, .param .u64 out)
.reqntid 32, 1, 1
{
  .reg .b32 %r<4>; .reg .b64 %rd<5>;
  ld.param.u64 %rd1, [x]; ld.param.u64 %rd2, [y]; ld.param.u64 %rd3, [out];
  mov.u32 %r1, %tid.x; mul.wide.u32 %rd4, %r1, 4;
  add.s64 %rd1, %rd1, %rd4; add.s64 %rd2, %rd2, %rd4; add.s64 %rd3, %rd3, %rd4;
  ld.global.u32 %r2, [%rd1]; ld.global.u32 %r3, [%rd2]; add.s32 %r2, %r2, %r3; st.global.u32 [%rd3], %r2;
  ret;
}
"""


@pytest.mark.parametrize("metadata", ["", '{"name": "add", "num_warps": 1, "shared": 0}'])
def test_ptx_that_no_triton_made_is_assembled_for_a_gpu_with_the_arguments_it_declares(
    gpu: Session, metadata: str
) -> None:
    made = gpu.compile(HAND_WRITTEN, "ptx", metadata_json=metadata)
    assert len(made.info.arguments) == 3
    assert "triton_version" not in json.loads(made.info.metadata_json)
    again = gpu.compile(HAND_WRITTEN, "ptx", metadata_json=metadata)
    assert again.cached and len(again.info.arguments) == 3


def test_ptx_of_an_older_architecture_with_all_of_its_metadata_is_assembled_for_a_gpu(gpu: Session) -> None:
    """As Triton's cache folder has it: 'arch' and 'target' say what it was made for, and it runs on what follows."""
    metadata = json.loads((ROOT / "examples/kernels/vector_add.sm80.json").read_text())
    metadata |= {"arch": "sm80", "target": {"backend": "cuda", "arch": 80, "warp_size": 32}}
    ptx = (ROOT / "examples/kernels/vector_add.sm80.ptx").read_bytes()
    made = gpu.compile(ptx, "ptx", metadata_json=json.dumps(metadata))
    assert len(made.info.arguments) == 4
    assert json.loads(made.info.metadata_json)["target"]["arch"] == 90


def test_a_fault_on_a_gpu_costs_its_own_launch_and_no_tensor(gpu: Session) -> None:
    fill = kernel(gpu, "conformance.sm_90.cubin", "fill")
    illegal = kernel(gpu, "faults.sm_90.cubin", "illegal")
    data = np.arange(1000, dtype=np.int32)
    kept, other = gpu.tensor(data), gpu.allocate("int32", 32)
    with pytest.raises(CallError) as fault:
        gpu.launch(illegal, (1,), other)
    assert fault.value.reason == "ILLEGAL_ADDRESS"
    gpu.launch(fill, (1,), other, 3)
    assert gpu.read(kept.tensor) == data.tobytes()
    assert gpu.info().executor_restarts == 1


def test_health_is_what_the_canary_says(tmp_path: Path) -> None:
    """The driver stops making contexts: the device is NOT_SERVING and says why; it comes back with the driver."""
    library = tmp_path / "libcuda.so.1"
    library.symlink_to(FAKE_DRIVER)
    daemon = Daemon(tmp_path, BUILD, TOOLCHAINS, "--libcuda", str(library), "--devices", "cuda,emulator")
    daemon.start()
    try:
        wait_until(lambda: health(daemon, "cuda:0") == SERVING, "a healthy device")
        # Executors that live keep what they have loaded; the next one finds no driver.
        library.unlink()
        session = daemon.open_session(device="cuda:0")
        wait_until(lambda: health(daemon, "cuda:0") == NOT_SERVING, "the device's illness")
        assert "libcuda" in devices(daemon)["cuda:0"].unusable_reason
        assert health(daemon, "emulator:0") == SERVING
        ill = doctor(daemon)["device cuda:0"]
        assert ill["verdict"] == "warning" and "libcuda" in ill["found"] and "TRUN_LIBCUDA" in ill["found"]
        session.close()
        library.symlink_to(FAKE_DRIVER)
        daemon.open_session(device="cuda:0").close()  # asks for a spare at once, not at the next round of canaries
        wait_until(lambda: health(daemon, "cuda:0") == SERVING, "the device's recovery")
    finally:
        daemon.stop()


@pytest.mark.parametrize("version", ["3.4.0", "3.9.0"])
def test_a_tensor_descriptor_goes_to_the_kernel_as_a_tensor_map(gpu_daemon: Daemon, version: str) -> None:
    """Triton's own kernel for sm_90, on the emulator: what lies outside the tensor reads as zero."""
    session = gpu_daemon.open_session(device="emulator:0")
    folder = ARTIFACTS / version
    made = session.compile(
        (folder / "described.ptx").read_bytes(), "ptx", metadata_json=(folder / "described.json").read_text()
    )
    rows, columns, pitch = 40, 50, 56
    values = np.random.default_rng(1).standard_normal((rows, pitch)).astype(np.float16)
    source, target = session.tensor(values), session.allocate("float16", 64, 64)
    descriptor = launch_pb2.TensorDescriptor(
        base=launch_pb2.TensorReference(tensor=source.tensor),
        shape=[rows, columns],
        strides=[pitch, 1],
        block_shape=[64, 64],
    )
    session.launch(made.kernel, (1,), launch_pb2.LaunchArgument(tensor_descriptor=descriptor), target, 64 * 64)
    expected = np.zeros((64, 64), dtype=np.float16)
    expected[:rows, :columns] = values[:, :columns]
    got = np.frombuffer(session.read(target.tensor), dtype=np.float16).reshape(64, 64)
    assert np.array_equal(got, expected)
    descriptor.strides[0] = 51
    with pytest.raises(CallError, match="16") as refused:
        session.launch(made.kernel, (1,), launch_pb2.LaunchArgument(tensor_descriptor=descriptor), target, 64 * 64)
    assert refused.value.reason == "ARGUMENT" and refused.value.details["argument"] == "0"
    session.close()
