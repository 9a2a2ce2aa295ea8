"""Arrays to and from tensors that only the device can touch: pinned ones as they are, others through a staging area."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import numpy as np
import pytest
import trun
from fake_trund import FakeTrund
from trun import _staging

BIG = (5 << 20) + 3


@pytest.fixture
def gpu(fake: FakeTrund, monkeypatch: pytest.MonkeyPatch) -> Iterator[trun.Session]:
    fake.memory_is_the_devices_own = True
    monkeypatch.setattr(_staging, "PIECE_BYTES", 1 << 20)
    monkeypatch.setattr("os.cpu_count", lambda: 6)
    with trun.connect(fake.socket) as session:
        yield session


def random_bytes(count: int) -> np.ndarray:
    return np.random.default_rng(7).integers(0, 255, count, dtype=np.uint8)


@pytest.mark.parametrize("reason", ["QUOTA", "OUT_OF_MEMORY"])
def test_where_an_area_is_refused_bytes_travel_on_a_stream(fake: FakeTrund, gpu: trun.Session, reason: str) -> None:
    fake.refuse_areas = reason
    values = random_bytes(BIG)
    for _ in range(2):
        np.testing.assert_array_equal(gpu.tensor(values).numpy(), values)
    assert fake.calls["CreateStaging"] == 1, "it was asked again for what it cannot give"
    assert fake.calls["Transfer"] == 0
    with pytest.raises(trun.errors.TrunError) as caught:
        gpu.pinned(10)
    assert caught.value.reason == reason


def test_an_area_that_could_shrink_is_not_mapped(fake: FakeTrund, gpu: trun.Session) -> None:
    fake.unsealed_areas = True
    values = random_bytes(BIG)
    np.testing.assert_array_equal(gpu.tensor(values).numpy(), values)
    assert fake.calls["Transfer"] == 0
    gpu.empty(1)
    assert fake.areas == {}, "it was given back"


def test_a_daemon_that_gives_no_descriptors_gets_a_stream(fake: FakeTrund, gpu: trun.Session) -> None:
    gpu._transfers._descriptor_socket += ".gone"
    values = random_bytes(BIG)
    np.testing.assert_array_equal(gpu.tensor(values).numpy(), values)
    assert fake.calls["Transfer"] == 0


def test_a_copy_that_fails_says_so_and_leaves_no_thread_on_the_array(fake: FakeTrund, gpu: trun.Session) -> None:
    values = random_bytes(BIG)
    tensor = gpu.tensor(values)
    fake.areas.clear()
    with pytest.raises(trun.errors.HandleError):
        tensor.copy_from(values)


def test_large_arrays_are_copied_through_one_area_in_pieces(fake: FakeTrund, gpu: trun.Session) -> None:
    values = random_bytes(BIG)
    tensor = gpu.tensor(values)
    assert fake.calls["Transfer"] == 6
    np.testing.assert_array_equal(tensor.numpy(), values)
    assert fake.calls["Transfer"] == 12
    assert (fake.calls["CreateStaging"], fake.calls["Write"], fake.calls["Read"]) == (1, 0, 0)


def test_pinned_arrays_and_parts_of_them_travel_as_they_are(fake: FakeTrund, gpu: trun.Session) -> None:
    pinned = gpu.pinned((1024, 256), np.float32)
    assert pinned.shape == (1024, 256) and not pinned.any()
    pinned[:] = np.arange(1024)[:, None]
    tensor = gpu.tensor(pinned)
    part = gpu.empty((128, 256)).copy_from(pinned[128:256])
    assert fake.calls["Transfer"] == 2
    np.testing.assert_array_equal(part.numpy()[:, 0], np.arange(128, 256))
    back = gpu.pinned((1024, 256))
    assert tensor.numpy(out=back) is back
    np.testing.assert_array_equal(back, pinned)
    assert (fake.calls["Transfer"], fake.calls["CreateStaging"]) == (3, 2)


def test_an_area_is_given_back_after_the_last_array_in_it(fake: FakeTrund, gpu: trun.Session) -> None:
    pinned = gpu.pinned(1 << 20, np.uint8)
    view = pinned[10:20]
    del pinned
    gc.collect()
    gpu.empty(4)
    assert len(fake.areas) == 1
    assert not view.any()
    del view
    gc.collect()
    gpu.empty(4)
    assert fake.areas == {}


def test_pinned_arrays_are_ordinary_ones_where_there_is_no_gpu(fake: FakeTrund, session: trun.Session) -> None:
    pinned = session.pinned(100)
    pinned[:] = np.arange(100)
    np.testing.assert_array_equal(session.tensor(pinned).numpy(), np.arange(100))
    assert fake.calls["Transfer"] == 0


def test_an_array_that_does_not_fit_is_not_read_into(gpu: trun.Session) -> None:
    tensor = gpu.zeros((4, 4))
    for out in (np.zeros((4, 4)), np.zeros((2, 8), np.float32), np.zeros((8, 4), np.float32)[::2]):
        with pytest.raises(trun.errors.ArgumentError, match="contiguous"):
            tensor.numpy(out=out)
