"""Runs pytest's tests on several sides and compares them case by case.

As a plugin (`pytest -p case_by_case`) it takes one test in SAMPLE in a shuffled order, always the same, starts none
after UNTIL (seconds since the epoch) and appends each verdict to RECORD as it comes: a side that is ended still counts.
As a program, `case_by_case.py REFERENCE.jsonl OTHER.jsonl ...` says what the others do otherwise than the reference,
and fails if they do. What one of the two never came to is not compared. `--fewer-is-failing` minds only what passes in
the reference and fails in another: emulators of other architectures refuse other things.
"""

from __future__ import annotations

import argparse
import collections
import hashlib
import json
import os
import pathlib
import re
import sys
import time
from typing import Any, NamedTuple

NOT_REACHED = "not reached in time"


def pytest_collection_modifyitems(items: list[Any]) -> None:
    """By names alone: sides that collect other cases take the same ones of those that they share."""
    sample = int(os.environ.get("SAMPLE", "1"))
    drawn = {item: int(hashlib.sha256(item.nodeid.encode()).hexdigest(), 16) for item in items}
    items[:] = sorted((item for item in items if drawn[item] % sample == 0), key=lambda item: drawn[item])


def pytest_runtest_setup(item: Any) -> None:
    import pytest

    if time.time() > float(os.environ.get("UNTIL", "inf")):
        pytest.skip(NOT_REACHED)


def pytest_runtest_logreport(report: Any) -> None:
    record = os.environ.get("RECORD")
    if not record or "PYTEST_XDIST_WORKER" in os.environ:  # the process that hears from all of them writes
        return
    if report.passed and report.when != "call":
        return
    crash = getattr(report.longrepr, "reprcrash", None)
    message = crash.message if crash else report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
    text = " ".join(str(message or "").split())
    if len(text) > 500:  # an error of Triton's begins with the kernel's source and ends with what is wrong
        text = f"{text[:200]} [...] {text[-300:]}"
    line = {"case": report.nodeid, "verdict": report.outcome, "message": text}
    with open(record, "a") as file:
        file.write(json.dumps(line) + "\n")


class Verdict(NamedTuple):
    kind: str
    message: str


def verdicts(path: pathlib.Path) -> dict[str, Verdict]:
    out: dict[str, Verdict] = {}
    for line in path.read_text().splitlines():
        said = json.loads(line)
        if NOT_REACHED in said["message"] and said["verdict"] == "skipped":
            continue
        if out.get(said["case"], Verdict("", "")).kind != "failed":  # a teardown that passes mends nothing
            out[said["case"]] = Verdict(said["verdict"], said["message"])
    return out


def grouped(cases: list[str], message_of: dict[str, Verdict]) -> list[str]:
    """A line for each function and message but for its numbers, with how many and one of them."""
    groups: dict[tuple[str, str], list[str]] = collections.defaultdict(list)
    for case in cases:
        message = message_of[case].message
        groups[case.partition("[")[0], re.sub(r"0x[0-9a-f]+|[-+.e]*\d[\d.e+-]*", "#", message)[-120:]].append(case)
    ordered = sorted(groups.values(), key=len, reverse=True)
    return [f"  {len(group):5} x {group[0]}: {message_of[group[0]].message}" for group in ordered]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fewer-is-failing", action="store_true")
    parser.add_argument("reference", type=pathlib.Path)
    parser.add_argument("others", type=pathlib.Path, nargs="+")
    given = parser.parse_args()
    sides = {path.stem: verdicts(path) for path in (given.reference, *given.others)}
    for name, side in sides.items():
        counts = collections.Counter(verdict.kind for verdict in side.values())
        print(f"{name}: {counts['passed']} passed, {counts['failed']} failed, {counts['skipped']} skipped")
    (reference, expected), *others = sides.items()
    bad = False
    for name, side in others:
        both = [case for case in expected if case in side]
        print(f"\n{reference} and {name}: {len(both)} cases on both")
        bad = bad or not both
        kinds = ("passed", "failed", "skipped")
        for was, now in ((was, now) for was in kinds for now in kinds):
            cases = [case for case in both if (expected[case].kind, side[case].kind) == (was, now)]
            fewer = (was, now) == ("passed", "failed")
            if was == now == "failed":
                print(f"{len(cases)} failed on both:", *grouped(cases, expected)[:10], sep="\n")
            elif was != now and (cases or fewer):
                bad = bad or (bool(cases) and (fewer or not given.fewer_is_failing))
                print(f"{len(cases)} {was} with {reference}, {now} with {name}:")
                print(*grouped(cases, side if now != "passed" else expected), sep="\n")
    return int(bad)


if __name__ == "__main__":
    sys.exit(main())
