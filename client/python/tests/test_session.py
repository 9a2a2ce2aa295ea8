from __future__ import annotations

import gc
import os
import threading
import time
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import trun
from fake_trund import FakeTrund

ADD = "module {\n  tt.func public @vector_add() {}\n}\n"


def wait_until(condition: object, what: str) -> None:
    deadline = time.monotonic() + 20
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


def test_a_daemon_that_is_not_there_is_unavailable(folder: str) -> None:
    with pytest.raises(trun.UnavailableError) as caught:
        trun.connect(f"unix:{folder}/nobody.sock")
    assert caught.value.reason == "UNAVAILABLE"
    assert "TRUN_ADDRESS" in str(caught.value)


def test_arrays_travel_by_the_socket_where_the_memory_is_the_devices_own(fake: FakeTrund) -> None:
    fake.memory_is_the_devices_own = True
    values = np.arange(1 << 17, dtype=np.float32)  # over the size from which memory would be mapped
    with trun.connect(fake.socket) as session:
        for _ in range(2):
            np.testing.assert_array_equal(session.tensor(values).numpy(), values)
        assert fake.calls["ExportDescriptors"] == 1, "it was asked again for what it cannot give"
        with pytest.raises(trun.TrunError):
            session.tensor(values).map()


def test_the_device_of_the_environment_holds_where_a_program_names_none(
    fake: FakeTrund, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRUN_DEVICE", "cuda:7")
    with pytest.raises(trun.TrunError, match="no device cuda:7"):
        trun.connect(fake.socket)
    with trun.connect(fake.socket, device="emulator:0") as session:
        assert session.device == "emulator:0"


def test_an_unknown_device_is_an_error_of_the_daemon(fake: FakeTrund) -> None:
    with pytest.raises(trun.TrunError) as caught:
        trun.connect(fake.socket, device="cuda:7")
    assert caught.value.code == "NOT_FOUND"


def test_a_closed_session_answers_every_call_with_session_expired(
    fake: FakeTrund,
) -> None:
    session = trun.connect(fake.socket)
    kernel = session.load(ADD)
    tensor = session.zeros(4)
    session.close()
    session.close()
    assert not fake.sessions
    with pytest.raises(trun.SessionExpiredError):
        session.load(ADD)
    with pytest.raises(trun.SessionExpiredError):
        tensor.numpy()
    with pytest.raises(trun.SessionExpiredError):
        kernel[1](tensor, tensor, tensor, 1)
    tensor.free()


def test_a_session_that_the_daemon_forgot_says_so(fake: FakeTrund) -> None:
    session = trun.connect(fake.socket)
    fake.sessions.clear()
    with pytest.raises(trun.SessionExpiredError, match="trun.connect"):
        session.empty(4)


def test_the_lease_is_renewed_in_the_background_and_not_after_closing(
    fake: FakeTrund,
) -> None:
    with trun.connect(fake.socket, lease=0.3):
        wait_until(lambda: fake.calls["KeepAlive"] >= 2, "no KeepAlive came")
    before = threading.active_count()
    wait_until(
        lambda: not any(t.name == "trun-keep-alive" for t in threading.enumerate()),
        f"{before} threads stay",
    )


def test_the_lease_is_renewed_however_long_it_takes_to_free_what_was_dropped(fake: FakeTrund) -> None:
    release, keep_alive, renewed = fake.ReleaseKernel, fake.KeepAlive, []

    def slow_release(request: Any) -> Any:
        time.sleep(0.2)
        return release(request)

    def noted(request: Any) -> Any:
        renewed.append(time.monotonic())
        return keep_alive(request)

    with trun.connect(fake.socket, lease=0.9) as session:
        fake.ReleaseKernel, fake.KeepAlive = slow_release, noted  # type: ignore[method-assign]
        kernels = [session.load(ADD) for _ in range(15)]
        begun = time.monotonic()
        kernels.clear()
        gc.collect()
        wait_until(lambda: fake.calls["ReleaseKernel"] >= 15, "not all were released")
        gaps = [
            later - earlier for earlier, later in zip([begun, *renewed], [*renewed, time.monotonic()], strict=False)
        ]
    assert max(gaps) < 0.9, gaps


def test_a_session_that_is_dropped_is_closed(fake: FakeTrund) -> None:
    session = trun.connect(fake.socket, lease=0.3)
    assert fake.sessions
    del session
    gc.collect()
    wait_until(lambda: not fake.sessions, "the session stays open")


def test_a_forked_child_gets_an_error_and_leaves_the_parents_session_alone(
    fake: FakeTrund,
) -> None:
    session = trun.connect(fake.socket)
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            session.empty(4)
            os.write(write, b"no error")
        except trun.TrunError as error:
            os.write(write, str(error).encode())
        except BaseException as error:  # the child must not run the tests on
            os.write(write, repr(error).encode())
        session.close()
        os._exit(0)
    os.close(write)
    said = os.read(read, 1000).decode()
    os.waitpid(child, 0)
    os.close(read)
    assert "fork" in said
    assert session.empty(4).numpy().tolist() == [0, 0, 0, 0]
    session.close()


def test_a_tensor_keeps_values_shape_and_type(session: trun.Session) -> None:
    for dtype in (
        np.float32,
        np.float16,
        np.int64,
        np.bool_,
        ml_dtypes.bfloat16,
        ml_dtypes.float8_e4m3fn,
    ):
        values = np.arange(12).reshape(3, 4).astype(dtype)
        tensor = session.tensor(values)
        assert tensor.shape == (3, 4)
        assert tensor.dtype == values.dtype
        assert (tensor.numpy() == values).all()
        assert (np.asarray(tensor) == values).all()


def test_a_large_tensor_travels_through_shared_memory(fake: FakeTrund, session: trun.Session) -> None:
    values = np.random.default_rng(1).standard_normal(300_000).astype(np.float32)
    tensor = session.tensor(values)
    assert (tensor.numpy() == values).all()
    assert fake.calls["ExportDescriptors"] == 1
    assert fake.calls["Write"] == fake.calls["Read"] == 0
    view = tensor.map()
    view[0] = 42
    assert tensor.numpy()[0] == 42
    tensor.free()
    view[1] = 43  # the memory lives as long as the array does
    assert view[1] == 43


def test_without_shared_memory_it_travels_in_chunks(folder: str) -> None:
    fake = FakeTrund(folder, map_memory=False)
    try:
        with trun.connect(fake.socket) as session:
            values = np.random.default_rng(1).integers(0, 255, 2_500_000).astype(np.uint8)
            tensor = session.tensor(values)
            assert (tensor.numpy() == values).all()
            assert fake.calls["ExportDescriptors"] == 0
            with pytest.raises(trun.TrunError, match="numpy"):
                tensor.map()
    finally:
        fake.stop()


def test_tensors_can_be_filled_copied_and_overwritten(session: trun.Session) -> None:
    a, b = session.empty((2, 3), "f16"), session.empty((2, 3), "fp16")
    assert a.fill(1.5).numpy().tolist() == [[1.5] * 3] * 2
    assert (b.copy_from(a).numpy() == a.numpy()).all()
    b.copy_from([[1, 2, 3], [4, 5, 6]])
    assert b.numpy()[1, 2] == 6
    with pytest.raises(trun.ArgumentError):
        b.copy_from(np.zeros((3, 2)))
    with pytest.raises(trun.ArgumentError):
        b.copy_from(session.empty(7))


def test_a_freed_tensor_is_refused_here_and_by_the_daemon(fake: FakeTrund, session: trun.Session) -> None:
    tensor = session.empty(4)
    handle = tensor.handle
    tensor.free()
    tensor.free()
    with pytest.raises(trun.HandleError):
        tensor.numpy()
    assert handle not in fake.tensors


def test_dropped_tensors_and_kernels_are_freed_with_the_next_call(fake: FakeTrund, session: trun.Session) -> None:
    session.tensor(np.zeros(4))
    session.load(ADD)
    gc.collect()
    session.empty(1)
    gc.collect()
    session.empty(1)
    assert len(fake.tensors) <= 1
    assert not fake.kernels


def test_a_quota_is_an_error_of_its_own_with_the_limit(session: trun.Session) -> None:
    with pytest.raises(trun.QuotaError) as caught:
        session.empty(1 << 31, np.uint8)
    assert caught.value.details["limit"] == str(1 << 30)


def test_element_types_that_no_kernel_takes_are_refused(session: trun.Session) -> None:
    for bad in (np.complex64, "U4", np.dtype(">f4"), "nonsense"):
        with pytest.raises(trun.ArgumentError):
            session.empty(4, bad)


def test_what_there_is_can_be_listed(session: trun.Session) -> None:
    assert session.devices()[0].device == "emulator:0"
    assert session.toolchains()[0].name == "3.9.0"
    assert session.describe_toolchain("3.9.0")[0].default == 4
    with pytest.raises(trun.ToolchainNotFoundError):
        session.describe_toolchain("2.0")


def test_notebooks_get_tables_and_names_are_escaped(session: trun.Session) -> None:
    from trun._html import table

    assert "<table>" in session._repr_html_()
    assert "emulator:0" in repr(session)
    assert "(3,)" in session.empty(3)._repr_html_()
    assert "<b>" not in table("x", [("<b>",)]).split("</caption>")[1]
    kernel = session.load(ADD)
    assert "vector_add" in kernel._repr_html_()
    assert "x_ptr: *f32 (multiple of 16)" in repr(kernel)
