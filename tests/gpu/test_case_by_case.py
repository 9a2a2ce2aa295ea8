"""case_by_case.py on two sides whose tests need nothing: the side is told by an environment variable."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys

import pytest

HERE = pathlib.Path(__file__).resolve().parent
TESTS = """
import os
import pytest

EMULATOR = os.environ["SIDE"] == "emulator"

@pytest.mark.parametrize("n", range(40))
def test_adds(n):
    assert n + 1 == 1 + n

@pytest.mark.parametrize("n", range(3))
def test_differs(n):
    if n == 2 and EMULATOR:
        raise ValueError("wrong at 0x7f12 by 0.25")
    if n == 1:
        pytest.skip("needs what nobody has")
    assert n != 0, "wrong everywhere"

@pytest.mark.skipif(EMULATOR, reason="not for emulators")
def test_of_one_side():
    pass
"""


@pytest.fixture()
def folder(tmp_path: pathlib.Path) -> pathlib.Path:
    (tmp_path / "test_sides.py").write_text(TESTS)
    return tmp_path


def side(folder: pathlib.Path, name: str, **more: str) -> pathlib.Path:
    record = folder / f"{name}.jsonl"
    clean = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST")}
    environment = {**clean, "PYTHONPATH": str(HERE), "SIDE": name, "RECORD": str(record), **more}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "case_by_case", "."]
    subprocess.run(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, check=False)
    return record


def compared(*arguments: object) -> tuple[int, str]:
    command = [sys.executable, str(HERE / "case_by_case.py"), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def test_what_passes_on_one_side_and_fails_on_the_other_is_a_failure_with_its_message(folder: pathlib.Path) -> None:
    reference, emulator = side(folder, "alone"), side(folder, "emulator")
    code, said = compared("--fewer-is-failing", reference, emulator)
    assert code == 1
    assert "alone: 42 passed, 1 failed, 1 skipped" in said and "emulator: 40 passed, 2 failed, 2 skipped" in said
    assert "1 passed with alone, failed with emulator:" in said
    assert "test_sides.py::test_differs[2]: ValueError: wrong at 0x7f12 by 0.25" in said
    assert "1 failed on both" in said and "wrong everywhere" in said


def test_what_is_skipped_on_one_side_is_listed_and_a_failure_only_where_all_counts(folder: pathlib.Path) -> None:
    kept = [json.loads(line) for line in side(folder, "emulator").read_text().splitlines()]
    passing = folder / "skips.jsonl"
    passing.write_text(
        "".join(json.dumps(line) + "\n" for line in kept if line["case"] != "test_sides.py::test_differs[2]")
    )
    reference = side(folder, "alone")
    code, said = compared("--fewer-is-failing", reference, passing)
    assert code == 0 and "1 passed with alone, skipped with skips:" in said and "not for emulators" in said
    assert compared(reference, passing)[0] == 1


def test_sides_take_the_same_sample_and_what_was_not_reached_is_not_compared(folder: pathlib.Path) -> None:
    cases = [
        {json.loads(line)["case"] for line in side(folder, name, SAMPLE="3").read_text().splitlines()} for name in "ab"
    ]
    assert cases[0] == cases[1] and 5 <= len(cases[0]) <= 30
    code, said = compared(side(folder, "alone"), side(folder, "late", UNTIL="1"))
    assert code == 1 and "0 cases on both" in said
