"""What bad input gets on the device: the same classes and reasons as on the emulator, and nobody else notices.

A GPU sees less than the emulator: an access is illegal where no memory is mapped, not where a tensor ends. The rows
that fault therefore go far astray. Each runs beside another session on the same device, whose tensor, kernel and
executor must be as they were.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from box import DEVICE
from kernels import ENDLESS, EXAMPLES, STORE, UNKNOWN_INSTRUCTION, ptx
from kernels import metadata as any_metadata

TRAP = ptx("give_up", "", "  trap;\n  ret;")


def metadata(name: str, **changes: object) -> str:
    """Of PTX by hand, which ends with no scratch pointers, as that of Triton 3.2 does: a cubin cannot say so itself."""
    return any_metadata(name, triton_version="3.2.0", **changes)


@pytest.fixture(autouse=True)
def bystander(box: Any) -> Iterator[None]:
    import trun

    with trun.connect(box.address, DEVICE, name="bystander") as other:
        data = np.arange(1024, dtype=np.int32)
        held = other.tensor(data)
        store = other.load(STORE, level="ptx", metadata=metadata("store"))
        yield
        np.testing.assert_array_equal(held.numpy(), data)
        store[1](held, 0)
        np.testing.assert_array_equal(held.numpy()[:32], np.arange(32))
        (seen,) = [s for s in box("sessions", "list", "--json")["sessions"] if s["session"] == other.id]
        assert seen["executor_restarts"] == 0, "a bystander's executor was restarted"


@pytest.fixture
def session(box: Any) -> Iterator[Any]:
    import trun

    with trun.connect(box.address, DEVICE) as opened:
        yield opened


@pytest.fixture
def store(session: Any) -> Any:
    return session.load(STORE, level="ptx", metadata=metadata("store"))


def refused(error: str, reason: str) -> Any:
    import trun

    return pytest.raises(getattr(trun, error), match=rf"\[{reason}\]")


def still_launches(session: Any, store: Any) -> None:
    out = session.zeros(64, np.int32)
    store[1](out, 0)
    np.testing.assert_array_equal(out.numpy()[:32], np.arange(32))


# -- refused before anything reaches the device --


def test_a_wrong_number_of_arguments(session: Any, store: Any) -> None:
    out = session.zeros(64, np.int32)
    for arguments in ((), (out,), (out, 0, 0)):
        with refused("ArgumentError", "ARGUMENT"):
            store[1](*arguments)


def test_a_wrong_kind_of_argument(session: Any, store: Any) -> None:
    out = session.zeros(64, np.int32)
    with refused("ArgumentError", "ARGUMENT"):
        store[1](out, out)
    with refused("ArgumentError", "ARGUMENT"):
        store[1](7, 0)


def test_an_integer_that_does_not_fit(session: Any, store: Any) -> None:
    with refused("ArgumentError", "ARGUMENT"):
        store[1](session.zeros(64, np.int32), 1 << 40)


def test_a_wrong_element_type(session: Any) -> None:
    add = session.load(EXAMPLES / "vector_add.ttir")
    x, half = session.zeros(1024, np.float32), session.zeros(1024, np.float16)
    with refused("ArgumentError", "ARGUMENT"):
        add[1](x, half, x, 1024)


def test_a_freed_tensor_and_one_of_another_session(box: Any, session: Any, store: Any) -> None:
    import trun

    freed = session.zeros(64, np.int32)
    freed.free()
    with pytest.raises(trun.TrunError):
        store[1](freed, 0)
    with trun.connect(box.address, DEVICE) as other, pytest.raises(trun.TrunError):
        store[1](other.zeros(64, np.int32), 0)


@pytest.mark.parametrize("grid", [(0,), (1, 0), (1, 70000), (1, 1, 70000), (1 << 31,), (1, 1, 1, 1)])
def test_a_zero_or_oversized_grid(session: Any, store: Any, grid: tuple[int, ...]) -> None:
    with refused("ArgumentError", "(LAUNCH_SHAPE|ARGUMENT)"):
        store[grid](session.zeros(64, np.int32), 0)


def test_too_much_shared_memory(session: Any) -> None:
    import trun

    with pytest.raises(trun.TrunError, match="shared"):
        kernel = session.load(STORE, level="ptx", metadata=metadata("store", shared=1 << 20))
        kernel[1](session.zeros(64, np.int32), 0)


def test_an_unknown_instruction_names_its_line(session: Any) -> None:
    import trun

    line = UNKNOWN_INSTRUCTION[: UNKNOWN_INSTRUCTION.index("frobnicate")].count("\n") + 1
    with pytest.raises(trun.TrunError) as caught:
        kernel = session.load(UNKNOWN_INSTRUCTION, level="ptx", metadata=metadata("store"))
        kernel[1](session.zeros(64, np.int32), 0)
    assert caught.value.reason in ("UNSUPPORTED_INSTRUCTION", "COMPILE_FAILED", "INVALID_IR"), str(caught.value)
    assert "frobnicate" in str(caught.value) and str(line) in str(caught.value)


def test_random_bytes_as_a_cubin(session: Any) -> None:
    import trun

    noise = b"\x7fELF" + np.random.default_rng(1).bytes(5000)
    with pytest.raises(trun.TrunError) as caught:
        session.load(noise, level="cubin", metadata=metadata("store"))[1](session.zeros(64, np.int32), 0)
    assert caught.value.code in ("INVALID_ARGUMENT", "FAILED_PRECONDITION"), str(caught.value)


# -- faults: one launch's own, the tensors intact, the session goes on --


def test_a_store_far_outside_every_tensor(session: Any, store: Any) -> None:
    data = np.arange(4096, dtype=np.int32)
    held = session.tensor(data)
    with refused("IllegalAddressError", "ILLEGAL_ADDRESS"):
        store[1](held, 1 << 29)  # 2 GiB on
    still_launches(session, store)
    np.testing.assert_array_equal(held.numpy()[31:], data[31:])


def test_a_misaligned_store(session: Any) -> None:
    text = STORE.replace("mul.wide.s32 %rd2, %r3, 4;", "mul.wide.s32 %rd2, %r3, 4;\n  add.s64 %rd2, %rd2, 1;")
    astray = session.load(text, level="ptx", metadata=metadata("store"))
    with refused("MisalignedAddressError", "MISALIGNED_ADDRESS"):
        astray[1](session.zeros(64, np.int32), 0)
    still_launches(session, session.load(STORE, level="ptx", metadata=metadata("store")))


def test_a_trap(session: Any, store: Any) -> None:
    import trun

    held = session.tensor(np.arange(4096, dtype=np.int32))
    with pytest.raises(trun.TrunError) as caught:
        session.load(TRAP, level="ptx", metadata=metadata("give_up"))[1]()
    assert isinstance(caught.value, trun.KernelFaultError | trun.ContextLostError), repr(caught.value)
    still_launches(session, store)
    np.testing.assert_array_equal(held.numpy(), np.arange(4096))


def test_a_kernel_that_never_ends(session: Any, store: Any) -> None:
    held, flag = session.tensor(np.arange(4096, dtype=np.int32)), session.zeros(8, np.int32)
    endless = session.load(ENDLESS, level="ptx", metadata=metadata("endless"))
    started = time.monotonic()
    with refused("HungKernelError", "HUNG_KERNEL"):
        endless[1](flag, deadline=0.5)
    assert time.monotonic() - started < 10
    still_launches(session, store)
    np.testing.assert_array_equal(held.numpy(), np.arange(4096))


def test_a_queued_launch_that_faults_is_named_by_its_number(session: Any, store: Any) -> None:
    import trun

    out = session.zeros(64, np.int32)
    store[1](out, 0, wait=False)
    bad = store[1](out, 1 << 29, wait=False)
    with pytest.raises(trun.IllegalAddressError) as caught:
        session.synchronize()
    assert caught.value.fault is not None and caught.value.fault.sequence == bad.sequence
    session.synchronize()
    still_launches(session, store)
