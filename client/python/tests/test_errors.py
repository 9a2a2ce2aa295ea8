from __future__ import annotations

import pickle

import pytest
import trun
from trun.errors import CLASSES, NEXT_STEPS, make_error
from trun.v1 import error_pb2


def test_every_reason_of_the_api_has_a_class() -> None:
    reasons = {name.removeprefix("ERROR_REASON_") for name in error_pb2.ErrorReason.keys()}
    assert reasons - set(CLASSES) == {"UNSPECIFIED", "NUMERIC_MISMATCH"}
    assert set(CLASSES) <= reasons


def test_every_reason_that_has_a_class_has_a_next_step() -> None:
    assert set(NEXT_STEPS) == set(CLASSES)
    assert all(make_error("m", reason=reason, code="INTERNAL").next_step for reason in CLASSES)


def test_an_unknown_reason_is_still_a_trun_error() -> None:
    error = make_error("new", reason="FROM_THE_FUTURE", code="INTERNAL")
    assert type(error) is trun.TrunError
    assert error.reason == "FROM_THE_FUTURE"


def test_an_error_says_place_and_next_step() -> None:
    details = {"line": "3", "column": "7"}
    error = make_error(
        "expected ':'",
        reason="INVALID_IR",
        code="INVALID_ARGUMENT",
        details=details,
        file="a.ttir",
    )
    assert isinstance(error, trun.InvalidIrError)
    assert isinstance(error, trun.CompileError)
    assert (error.line, error.column) == (3, 7)
    assert "a.ttir:3:7: expected ':'" in str(error)
    assert "next: correct the file" in str(error)


def test_details_that_are_no_numbers_are_no_line() -> None:
    error = make_error(
        "x",
        reason="INVALID_IR",
        code="INVALID_ARGUMENT",
        details={"line": "-1", "column": "9" * 50},
    )
    assert error.line is None
    assert error.column is None


def test_errors_are_also_the_builtin_ones_that_fit() -> None:
    assert issubclass(trun.ArgumentError, ValueError)
    assert issubclass(trun.OutOfMemoryError, MemoryError)
    assert issubclass(trun.HungKernelError, TimeoutError)
    assert issubclass(trun.UnavailableError, ConnectionError)


def test_errors_survive_pickling_with_all_they_know() -> None:
    fault = trun.FaultReport(instruction="st.global", program=(1, 0, 0))
    error = make_error("m", reason="ILLEGAL_ADDRESS", code="ABORTED", details={"a": "b"}, fault=fault)
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is trun.IllegalAddressError
    assert (copy.message, copy.reason, copy.details, copy.fault) == (
        "m",
        "ILLEGAL_ADDRESS",
        {"a": "b"},
        fault,
    )


def test_an_address_that_is_none_is_refused() -> None:
    with pytest.raises(trun.ArgumentError):
        trun.connect("localhost:8080")
    with pytest.raises(trun.ArgumentError, match="107"):
        trun.connect("/" + "x" * 200)
