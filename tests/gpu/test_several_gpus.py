"""Two devices at once: sessions, tensors and faults of one do not touch the other.

TRUN_CONFORMANCE_SECOND_DEVICE (cuda:1) is the second; skipped, with the reason, where the daemon has none.
"""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from box import DEVICE
from kernels import STORE, metadata

SECOND = os.environ.get("TRUN_CONFORMANCE_SECOND_DEVICE", "cuda:1")
GIB = 1 << 30


@pytest.fixture
def two(box: Any) -> Iterator[tuple[Any, Any]]:
    import trun

    known = {device["device"]: device for device in box("devices", "--json")["devices"]}
    if SECOND not in known or not known[SECOND]["usable"]:
        pytest.skip(f"no second device {SECOND}; the daemon has {', '.join(known)}")
    with trun.connect(box.address, DEVICE) as first, trun.connect(box.address, SECOND) as second:
        yield first, second


def load(session: Any) -> Any:
    return session.load(STORE, level="ptx", metadata=metadata("store"))


def sessions(box: Any) -> dict[str, Any]:
    return {s["session"]: s for s in box("sessions", "list", "--json")["sessions"]}


def test_a_session_runs_on_the_device_that_it_names(box: Any, two: tuple[Any, Any]) -> None:
    pids = [sessions(box)[session.id]["executor_pid"] for session in two]
    assert [sessions(box)[session.id]["device"] for session in two] == [DEVICE, SECOND]
    assert pids[0] != pids[1]
    used = {d["device"]: d["used_bytes"] for d in box("devices", "--json")["devices"]}
    held = two[1].zeros(GIB // 4, np.float32)
    after = {d["device"]: d["used_bytes"] for d in box("devices", "--json")["devices"]}
    assert after[SECOND] - used[SECOND] == GIB and after[DEVICE] == used[DEVICE]
    assert held.numpy()[-1] == 0


def test_memory_of_a_tensor_lies_on_its_own_device(two: tuple[Any, Any]) -> None:
    """As the driver counts it, which knows nothing of the daemon."""
    if not (DEVICE.startswith("cuda") and SECOND.startswith("cuda")) or not os.path.exists("/dev/nvidia1"):
        pytest.skip("two GPUs are needed")

    def used() -> list[int]:
        query = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
        return [int(line) for line in subprocess.run(query, capture_output=True, text=True).stdout.split()]

    for index, session in enumerate(two):
        before = used()
        tensor = session.zeros(2 * GIB // 4, np.float32)
        tensor.fill(1)
        grown = [b - a for a, b in zip(before, used(), strict=True)]
        assert grown[index] >= 2000 and grown[1 - index] < 500, (index, grown)


def test_both_work_at_once_and_a_fault_on_one_harms_nothing_on_the_other(box: Any, two: tuple[Any, Any]) -> None:
    import trun

    first, second = two
    data = np.arange(1000, (1 << 20) + 1000, dtype=np.int32)
    stored = np.concatenate([np.arange(32, dtype=np.int32), data[32:]])
    kept = [session.tensor(data) for session in two]
    stores = [load(session) for session in two]
    stop = threading.Event()
    failures: list[Exception] = []
    rounds = 0

    def work() -> None:
        nonlocal rounds
        try:
            while not stop.is_set():
                tensor = second.tensor(data)
                stores[1][1](tensor, 0)
                np.testing.assert_array_equal(tensor.numpy(), stored)
                rounds += 1
        except Exception as error:
            failures.append(error)

    worker = threading.Thread(target=work)
    worker.start()
    try:
        for fault in range(3):
            with pytest.raises(trun.KernelFaultError):
                stores[0][1](first.zeros(64, np.int32), 1 << 29)
            stores[0][1](kept[0], 0)
            np.testing.assert_array_equal(kept[0].numpy(), stored)
            if DEVICE.startswith("cuda"):
                assert sessions(box)[first.id]["executor_restarts"] == fault + 1
            before = rounds
            wait_for(lambda: rounds > before + 1 or bool(failures))  # noqa: B023
    finally:
        stop.set()
        worker.join()
    assert not failures, failures
    assert sessions(box)[second.id]["executor_restarts"] == 0
    np.testing.assert_array_equal(kept[1].numpy(), data)


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "the other device stands still"
        time.sleep(0.005)
