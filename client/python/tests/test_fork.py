"""A forked child may open sessions of its own. In a program of its own: the test's process has a gRPC server."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys

import trun
from fake_trund import FakeTrund

PROGRAM = """
import os, sys, trun
session = trun.connect(sys.argv[1])
tensor = session.tensor([1.0, 2.0])
child = os.fork()
if child == 0:
    with trun.connect(sys.argv[1]) as own:
        assert own.tensor([3.0]).numpy().tolist() == [3.0]
    sys.exit(7)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
assert tensor.numpy().tolist() == [1.0, 2.0]
print("done")
"""


def test_a_forked_child_may_connect_anew_and_ends_by_itself(fake: FakeTrund) -> None:
    source = str(pathlib.Path(trun.__file__).parents[1])
    environment = os.environ | {"PYTHONPATH": source}
    program = [sys.executable, "-c", PROGRAM, fake.socket]
    ended = subprocess.run(program, env=environment, timeout=60, capture_output=True, text=True)
    assert ended.stdout == "done\n", ended.stderr
    assert not fake.sessions
