"""The table of instruction families in docs/emulator.md names what the emulator's own table has, and nothing else."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
EMULATOR = ROOT / "server/device/emulator"
# What steers a warp is no family: kernel_decoder.cc decodes it.
CONTROL = {"bra", "brx", "ret", "exit", "trap", "call"}
# Words between the names in the page's first column: explanations, the second words of two-word names, modifiers.
PROSE = set(
    """a and another approx arrive arrive_drop block_scale bulk cc chains cluster clusters complete_tx
    expect_tx full groups idx ignore init load of other packing pending_count predicate reduce registers replace
    rn roundings s shared sizes sm_120 sp special src store sync tensor test_wait too try_wait unpacking warp with async
    memory the""".split()
)


def in_the_code() -> set[str]:
    files = [*EMULATOR.glob("ops/*.cc"), *EMULATOR.glob("async/*.cc")]
    return {name for path in files for name in re.findall(r'\btable->Add\("(\w+)"', path.read_text())}


def in_the_page() -> set[str]:
    """The words of the table's first column."""
    page = (ROOT / "docs/emulator.md").read_text()
    rows = page[page.index("| family | forms |") :].split("\n\n")[0].splitlines()[2:]
    assert len(rows) > 20
    return {word for row in rows for word in re.findall(r"[a-z]\w*", row.split("|")[1])}


def test_every_family_of_the_code_stands_in_the_page() -> None:
    assert len(in_the_code()) > 80
    assert not in_the_code() - in_the_page()


def test_every_name_in_the_page_is_a_family_of_the_code() -> None:
    assert not in_the_page() - in_the_code() - CONTROL - PROSE
    assert CONTROL <= in_the_page()


def test_a_name_is_not_both_a_family_and_a_word() -> None:
    """Otherwise it could go from the code and stay in the page."""
    assert not PROSE & (in_the_code() - {"and"})
