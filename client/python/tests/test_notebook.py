"""Kernels, sessions and errors as a notebook's cells have them: source in no file, names that cells redefine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import trun
from IPython.core.interactiveshell import InteractiveShell

Cell = Callable[..., Any]

KERNEL = """
@trun.jit
def scaled(x_ptr, out_ptr, n, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out_ptr + at, times(tl.load(x_ptr + at, mask=at < n)), mask=at < n)
"""
LAUNCH = """
scaled[(2,)](x, out, x.size, BLOCK=64)
out.tolist() == (x * FACTOR).tolist()
"""


@pytest.fixture(scope="module")
def cell(real_daemon: str) -> Iterator[Cell]:
    """Runs a cell and returns the value of its last line; what it raises is raised."""
    shell: Any = InteractiveShell.instance()
    shell.history_manager.enabled = False

    def run(text: str) -> Any:
        done = shell.run_cell(text, store_history=False)
        done.raise_error()
        return done.result

    run("from typing import NamedTuple\nimport numpy as np\nimport trun\nimport trun.language as tl")
    run(f"session = trun.connect({real_daemon!r})\ntrun.set_default_session(session)")
    run("x = np.arange(100, dtype=np.float32)\nout = np.zeros_like(x)")
    yield run
    run("trun.set_default_session(None)\nsession.close()")
    InteractiveShell.clear_instance()


def test_a_kernel_of_one_cell_calls_one_of_another_and_follows_what_later_cells_redefine(cell: Cell) -> None:
    cell("FACTOR = tl.constexpr(2)\n@trun.jit\ndef times(x):\n    return x * FACTOR")
    cell(KERNEL)
    assert cell(LAUNCH.replace("FACTOR", "2")) is True
    cell("FACTOR = tl.constexpr(5)")
    assert cell(LAUNCH.replace("FACTOR", "5")) is True
    cell("@trun.jit\ndef times(x):\n    return x * 7")
    assert cell(LAUNCH.replace("FACTOR", "7")) is True


def test_a_kernel_uses_a_class_of_a_cell(cell: Cell) -> None:
    cell("class Pair(NamedTuple):\n    first: object\n    second: object")
    cell(
        "@trun.jit\ndef add(x_ptr, out_ptr, BLOCK: tl.constexpr):\n"
        "    at = tl.arange(0, BLOCK)\n"
        "    both = Pair(tl.load(x_ptr + at), 1)\n"
        "    tl.store(out_ptr + at, both.first + both.second)"
    )
    assert cell("add[(1,)](x, out, BLOCK=64)\nout[:64].tolist() == (x[:64] + 1).tolist()") is True


def test_a_class_that_cells_define_differently_is_refused_where_nothing_tells_which_it_is(cell: Cell) -> None:
    kernel = (
        "@trun.jit\ndef write(out_ptr):\n    tl.store(out_ptr, Order(1.0, 2.0).first)\nwrite[(1,)](out)\nout[0].item()"
    )
    cell("class Order(NamedTuple):\n    first: object\n    second: object")
    assert cell(kernel) == 1
    cell("class Order(NamedTuple):\n    second: object\n    first: object")
    with pytest.raises(trun.InvalidIrError, match="several cells define Order"):
        cell(kernel)
    cell("class Order(NamedTuple):\n    second: object\n    first: object\n    def total(self):\n        return None")
    assert cell(kernel) == 2


def test_an_error_names_the_line_of_the_cell(cell: Cell) -> None:
    cell("@trun.jit\ndef wrong(out_ptr):\n    first = 1\n    tl.store(out_ptr, tl.no_such_thing(first))")
    with pytest.raises(trun.InvalidIrError) as caught:
        cell("wrong[(1,)](out)")
    assert caught.value.line == 4 and "no_such_thing" in str(caught.value)


def test_values_of_a_cell_are_shown_as_tables(cell: Cell) -> None:
    formatter: Any = InteractiveShell.instance().display_formatter
    for text in ("session", "session.zeros((3, 4))"):
        shown, _ = formatter.format(cell(text))
        assert "<table>" in shown["text/html"]
    shown, _ = formatter.format(cell("scaled[(2,)](x, out, x.size, BLOCK=64)"))
    assert "scaled" in shown["text/html"]
