from __future__ import annotations

import json
import pathlib

import ml_dtypes
import numpy as np
import pytest
import trun
from fake_trund import FakeTrund

ADD = "module {\n  tt.func public @vector_add() {}\n}\n"


@pytest.fixture
def add(session: trun.Session) -> trun.Kernel:
    return session.load(ADD)


def vectors(n: int = 100) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    x = np.arange(n, dtype=np.float32)
    return x, x * 2, np.zeros(n, np.float32)


def test_a_broken_file_raises_with_its_name_line_and_column(session: trun.Session, tmp_path: pathlib.Path) -> None:
    file = tmp_path / "k.ttir"
    file.write_text("broken")
    with pytest.raises(trun.InvalidIrError) as caught:
        session.load(file)
    assert f"{file}:3:7" in str(caught.value)


def test_a_file_that_is_not_there_is_an_ordinary_error(session: trun.Session) -> None:
    with pytest.raises(FileNotFoundError):
        session.load("no/such/file.ttir")
    with pytest.raises(trun.ArgumentError, match="ttgir"):
        session.load(ADD, level="assembler")
    with pytest.raises(trun.UnknownOptionError):
        session.load(ADD, options={"warps": 8})


def test_level_options_and_metadata_reach_the_daemon(
    fake: FakeTrund, session: trun.Session, tmp_path: pathlib.Path
) -> None:
    (tmp_path / "k.ptx").write_text("vector_add")
    (tmp_path / "k.json").write_text('{"shared": 7}')
    stages: list[str] = []
    session.load(
        tmp_path / "k.ptx",
        options={"num_warps": 8},
        toolchain="3.9.0",
        progress=stages.append,
    )
    request = fake.requests["Compile"]
    assert request.level == 6
    assert json.loads(request.metadata_json) == {"shared": 7}
    assert dict(request.options) == {"num_warps": "8"}
    assert stages == ["ptx"]
    session.load(tmp_path / "k.ptx", metadata={"shared": 1})
    assert json.loads(fake.requests["Compile"].metadata_json) == {"shared": 1}
    session.load(tmp_path / "k.ptx", metadata="{}")
    assert fake.requests["Compile"].metadata_json == "{}"
    session.load(ADD)
    assert fake.requests["Compile"].level == 0  # the daemon looks at the contents


def test_a_large_file_is_uploaded_once(fake: FakeTrund, session: trun.Session) -> None:
    text = (ADD + "// " + "x" * (3 << 20)).encode()
    session.load(text)
    session.load(text)
    assert fake.calls["Upload"] == 1
    with pytest.raises(trun.TooLargeError):
        session.load(b"x" * ((64 << 20) + 1))


def test_a_kernel_knows_its_signature_metadata_and_artifacts(add: trun.Kernel) -> None:
    assert [argument.name for argument in add.signature] == [
        "x_ptr",
        "y_ptr",
        "out_ptr",
        "n",
    ]
    assert add.signature[0].dtype == "f32"
    assert str(add.signature[3]) == "n: i32"
    assert add.metadata["num_warps"] == 4
    assert list(add.artifacts) == ["ttir", "ptx", "cubin"]
    assert add.asm["ptx"] == ".version "
    assert add.asm["cubin"] == b"\177ELF"
    with pytest.raises(KeyError):
        add.asm["llir"]
    assert add.stages[0].level == "ptx"


def test_arrays_are_written_back_unless_they_are_read_only(add: trun.Kernel) -> None:
    x, y, out = vectors()
    x.flags.writeable = False
    result = add[(1,)](x, y, out, x.size)
    assert (out == x + y).all()
    assert result.device_seconds == 2.5e-6
    assert result.printed == "hello\n"
    untouched = np.zeros(100, np.float32)
    untouched.flags.writeable = False
    add[1](x, y, untouched, x.size)
    assert not untouched.any()


def test_device_tensors_and_offsets_are_passed_by_handle(
    fake: FakeTrund, session: trun.Session, add: trun.Kernel
) -> None:
    x, y, out = (session.tensor(v) for v in vectors())
    add[1](x, y, out, 100)
    assert (out.numpy() == x.numpy() * 3).all()
    writes = fake.calls["Write"]
    add[1](x, y, out, 100)
    assert fake.calls["Write"] == writes
    with pytest.raises(trun.ArgumentError):
        x.at(101)


def test_the_same_array_twice_is_one_tensor_and_overlapping_ones_are_refused(fake: FakeTrund, add: trun.Kernel) -> None:
    x, _, _ = vectors()
    add[1](x, x, x, x.size)
    assert (x == np.arange(100) * 2).all()
    arguments = fake.requests["Launch"].arguments
    assert arguments[0].tensor.tensor == arguments[2].tensor.tensor
    whole = np.zeros(200, np.float32)
    with pytest.raises(trun.ArgumentError, match="overlap"):
        add[1](whole[:100], whole[50:150], whole[100:], 10)


def test_memory_for_arrays_is_kept_for_the_next_launch(fake: FakeTrund, add: trun.Kernel) -> None:
    for _ in range(3):
        x, y, out = vectors()
        add[1](x, y, out, x.size)
        assert (out == x + y).all()
    assert fake.calls["Allocate"] == 1


def test_large_arrays_go_through_shared_memory(fake: FakeTrund, add: trun.Kernel) -> None:
    x, y, out = vectors(200_000)
    add[1](x, y, out, x.size)
    assert (out == x + y).all()
    assert fake.calls["ExportDescriptors"] == 1
    assert fake.calls["Write"] == fake.calls["Read"] == 0


def test_arguments_may_be_named(add: trun.Kernel) -> None:
    x, y, out = vectors()
    add[1](x, y, n=x.size, out_ptr=out)
    assert (out == x + y).all()
    with pytest.raises(trun.ArgumentError, match="'m'"):
        add[1](x, y, out, m=1)
    with pytest.raises(trun.ArgumentError, match="twice"):
        add[1](x, y, out, x.size, x_ptr=x)
    with pytest.raises(trun.ArgumentError, match="lacks 'out_ptr'"):
        add[1](x, y, n=1)


def test_a_kernel_without_names_takes_arguments_by_position(
    session: trun.Session,
) -> None:
    kernel = session.load("module {\n @unnamed\n}")
    kernel[1](np.zeros(3, np.float32), 3)
    with pytest.raises(trun.ArgumentError, match="no names"):
        kernel[1](np.zeros(3, np.float32), n=3)


def test_wrong_arguments_are_named_before_anything_is_sent(fake: FakeTrund, add: trun.Kernel) -> None:
    x, y, out = vectors()
    with pytest.raises(trun.ArgumentError, match="takes 4 arguments, not 3"):
        add[1](x, y, out)
    with pytest.raises(trun.ArgumentError, match="argument 1 'y_ptr'.*f64") as caught:
        add[1](x, y.astype(np.float64), out, 1)
    assert caught.value.details["argument"] == "1"
    with pytest.raises(trun.ArgumentError, match="contiguous"):
        add[1](np.zeros((10, 10), np.float32)[:, ::2], y, out, 1)
    with pytest.raises(trun.ArgumentError, match="not a number"):
        add[1](x, y, out, x)
    with pytest.raises(trun.ArgumentError, match="str cannot"):
        add[1](x, y, out, "100")
    with pytest.raises(trun.ArgumentError, match="64 bits"):
        add[1](x, y, out, 1 << 64)
    assert fake.calls["Allocate"] == fake.calls["Launch"] == 0


def test_numbers_follow_the_signature(fake: FakeTrund, session: trun.Session) -> None:
    kernel = session.load("module {\n @scale\n}")
    x = np.ones(4, ml_dtypes.bfloat16)
    for value in (
        2,
        2.0,
        np.float32(2),
        np.int8(2),
        ml_dtypes.bfloat16(2),
        np.array(2.0),
    ):
        kernel[1](x, value)
        assert fake.requests["Launch"].arguments[1].float_value == 2.0, value
    add = session.load(ADD)
    a, b, c = vectors()
    for number in (7, np.int8(7), np.array(7)):
        add[1](a, b, c, number)
        assert fake.requests["Launch"].arguments[3].int_value == 7
    kernel[1](x, np.float16(3))
    unnamed = session.load("module {\n @unnamed\n}")
    unnamed[1](None, np.uint32(0xFFFFFFFF))
    assert fake.requests["Launch"].arguments[1].uint_value == 0xFFFFFFFF


def test_an_empty_array_and_none_are_null_pointers(fake: FakeTrund, session: trun.Session) -> None:
    kernel = session.load("module {\n @unnamed\n}")
    for nothing in (None, np.zeros(0, np.float32)):
        kernel[1](nothing, 0)
        assert fake.requests["Launch"].arguments[0].null_pointer


def test_a_grid_is_a_number_a_tuple_or_a_function(fake: FakeTrund, add: trun.Kernel) -> None:
    x, y, out = vectors()
    add[lambda meta: (trun.cdiv(meta["n"], 32), meta["num_warps"])](x, y, out, 100)
    assert list(fake.requests["Launch"].grid) == [4, 4]
    add[np.int64(3)](x, y, out, 100)
    assert list(fake.requests["Launch"].grid) == [3]
    for bad in ((), (1, 2, 3, 4), (1.5,), -1, (1 << 32,)):
        with pytest.raises(trun.ArgumentError):
            add[bad](x, y, out, 100)  # type: ignore[index]


def test_a_fault_says_where_and_which_argument_and_arrays_stay_as_they_were(
    add: trun.Kernel,
) -> None:
    x, y, out = vectors()
    with pytest.raises(trun.IllegalAddressError) as caught:
        add[1](x, y, out, 101)
    error = caught.value
    assert error.fault is not None
    assert error.fault.instruction == "st.global.b32"
    assert error.fault.program == (1, 0, 0)
    assert error.line == 12
    assert error.details["argument"] == "2"
    for part in (
        "'out_ptr'",
        "vector_add.py:12",
        "write of 4 bytes at 0x2000",
        "next:",
        "ILLEGAL_ADDRESS",
    ):
        assert part in str(error)
    assert not out.any()
    add[1](x, y, out, 100)
    assert (out == x + y).all()


def test_a_launch_past_its_deadline_is_a_hung_kernel(add: trun.Kernel) -> None:
    with pytest.raises(trun.HungKernelError):
        add[1](*vectors(), 100, deadline=0.5)
    with pytest.raises(trun.ArgumentError):
        add[1](*vectors(), 100, deadline=-1)


def test_a_queued_launch_reports_its_fault_once_when_synchronised(session: trun.Session, add: trun.Kernel) -> None:
    x, y, out = (session.tensor(v) for v in vectors())
    add[1](x, y, out, 101, wait=False)
    with pytest.raises(trun.IllegalAddressError):
        session.synchronize()
    assert session.synchronize() == "later\n"
    with pytest.raises(trun.ArgumentError, match="wait=False"):
        add[1](*vectors(), 1, wait=False)


def test_a_benchmark_gives_times_and_their_summary(fake: FakeTrund, add: trun.Kernel) -> None:
    result = add[1].benchmark(*vectors(), 100, repetitions=5)
    assert len(result.seconds) == 5
    assert result.best == pytest.approx(1e-6)
    assert "median 1.0 µs" in str(result)
    launch = fake.requests["Benchmark"].launch
    assert len(launch.arguments) == 4
    assert launch.arguments[0].tensor.tensor


def test_a_descriptor_travels_by_its_fields(fake: FakeTrund, session: trun.Session) -> None:
    kernel = session.load("module {\n @unnamed\n}")
    base = session.empty((8, 16), np.float16)
    kernel[1](trun.TensorDescriptor(base, block_shape=[4, 8]), 1)
    sent = fake.requests["Launch"].arguments[0].tensor_descriptor
    assert (list(sent.shape), list(sent.strides), list(sent.block_shape)) == (
        [8, 16],
        [16, 1],
        [4, 8],
    )


def test_compile_returns_everything_and_saves_it(
    fake: FakeTrund, session: trun.Session, tmp_path: pathlib.Path
) -> None:
    compiled = trun.compile(ADD, target="sm_90", session=session)
    assert fake.requests["Compile"].target == "sm_90"
    assert fake.requests["Compile"].last_level == 7
    assert compiled.asm["cubin"] == b"\177ELF"
    compiled.save(tmp_path)
    assert (tmp_path / "vector_add.ptx").read_text() == ".version "
    assert json.loads((tmp_path / "vector_add.json").read_text())["name"] == "vector_add"
