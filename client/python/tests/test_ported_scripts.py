"""A script written for the library that came before, ported by its import alone; and the passes of a kernel."""

from __future__ import annotations

import json
import logging
import os
import pathlib
import struct
import subprocess
import sys
import uuid
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import source_kernels as k
import trun
from trun.passes import parse_passes

SCRIPT = """
import {module}
import numpy as np
import {language} as tl

@{module}.jit
def matrix_add(a_ptr, b_ptr, c_ptr, n, BLOCK: tl.constexpr):
    offsets = tl.program_id(axis=0) * BLOCK + tl.arange(0, BLOCK)
    mask = offsets < n
    tl.store(c_ptr + offsets, tl.load(a_ptr + offsets, mask=mask) + tl.load(b_ptr + offsets, mask=mask), mask=mask)

def main():
    n = 1000
    a, b, c = np.arange(n, dtype=np.float32), np.ones(n, np.float32), np.zeros(n, np.float32)
    grid = lambda meta: ({module}.cdiv(n, meta["BLOCK"]),)
    matrix_add[grid](a, b, c, n, BLOCK=256{files})
    assert (c == a + {added}).all(), c[:4]
    print("right")

main()
"""


@pytest.fixture(scope="module")
def live(real_daemon: str) -> Iterator[trun.Session]:
    with trun.connect(real_daemon) as session:
        yield session


def run(real_daemon: str, script: pathlib.Path, text: str) -> str:
    script.write_text(text)
    path = os.pathsep.join(p for p in sys.path if p)
    environment = os.environ | {"PYTHONPATH": path, "TRUN_ADDRESS": real_daemon}
    done = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True, timeout=60)
    return done.stdout + done.stderr


@pytest.mark.parametrize("level", ["ttir", "ttgir", "llir", "ptx"])
def test_a_script_with_a_file_beside_it_is_ported_by_its_import(
    live: trun.Session, real_daemon: str, tmp_path: pathlib.Path, level: str
) -> None:
    """The file beside it adds twice what the source adds: that it ran is in the result."""
    script = tmp_path / "matrix_add.py"
    text = SCRIPT.format(
        module="triton_runner",
        language="triton_runner.language",
        files=f", {level}_dir=triton_runner.get_file_dir(__file__)",
        added="2 * b",
    )
    assert "No module named 'triton_runner'" in run(real_daemon, script, text)
    ported = text.replace("triton_runner", "trun")
    assert f"there is no matrix_add.{level}" in run(real_daemon, script, ported)
    doubled = tmp_path / "doubled.py"
    source = SCRIPT.format(module="trun", language="trun.language", files="", added="2 * b").replace(
        "+ tl.load(b_ptr + offsets, mask=mask)", "+ 2 * tl.load(b_ptr + offsets, mask=mask)"
    )
    launch = "matrix_add[grid](a, b, c, n, BLOCK=256)"
    kept = tmp_path / "kept.json"
    keep = f"made = {launch}; import json; json.dump([made.asm[{level!r}], made.metadata], open({str(kept)!r}, 'w'))"
    assert run(real_daemon, doubled, source.replace(launch, keep)) == "right\n"
    content, metadata = json.loads(kept.read_text())
    (tmp_path / f"matrix_add.{level}").write_text(content)
    (tmp_path / "matrix_add.json").write_text(json.dumps(metadata))
    assert run(real_daemon, script, ported) == "right\n"


def test_a_kernel_is_announced_as_saved_once_and_as_a_hit_from_then_on(
    live: trun.Session, caplog: pytest.LogCaptureFixture
) -> None:
    x, out = live.tensor(np.ones(64, np.float32)), live.zeros(64)
    text = k.accumulate.warmup(x, out, 64, BLOCK=64, session=live).asm["ttir"] + f"// {uuid.uuid4()}\n"
    for expected, other in (
        ("kernel saved: accumulate, compiled by Triton ", "cache hit"),
        ("kernel cache hit: accumulate is entry ", "saved"),
    ):
        caplog.clear()
        with caplog.at_level(logging.INFO, "trun"):
            kernel = k.accumulate[(1,)](x, out, 64, BLOCK=64, ttir_src=text)
        (said,) = [record.getMessage() for record in caplog.records]
        assert said.startswith(expected) and kernel.cache_key[:16] in said and other not in said


def test_blocks_and_powers_are_counted_as_triton_counts_them() -> None:
    assert [trun.cdiv(n, 128) for n in (0, 1, 127, 128, 129)] == [0, 1, 1, 1, 2]
    assert [trun.next_power_of_2(n) for n in (1, 2, 3, 127, 128, 129, 1 << 40)] == [1, 2, 4, 128, 128, 256, 1 << 40]


# Passes.


def test_a_record_of_passes_that_is_damaged_is_refused() -> None:
    header = json.dumps({"name": "ttir/inliner", "changed": True, "ns": 5}).encode()
    whole = b"TRUNPASS" + struct.pack("<II", len(header), 2) + header + b"ir"
    assert [(p.name, p.changed, p.ir) for p in parse_passes(whole)] == [("ttir/inliner", True, "ir")]
    for cut in range(9, len(whole)):
        with pytest.raises(trun.errors.CorruptError):
            parse_passes(whole[:cut])
    for damaged in (b"", b"TRUNPASt" + whole[8:], whole.replace(b'"ns"', b'"nt"'), whole.replace(b": 5", b":[5")):
        with pytest.raises(trun.errors.CorruptError):
            parse_passes(damaged)


def test_passes_of_a_kernel_are_listed_and_a_compile_goes_on_after_one(live: trun.Session) -> None:
    out = live.zeros(128, dtype="int32")
    made = k.fill.warmup(out, 5, BLOCK=128, session=live)
    given: dict[str, Any] = {"toolchain": made.toolchain, "options": {"num_warps": 4}}
    source = str(made.asm["ttir"]).encode()
    recorded = live.load(source, level="ttir", passes=True, **given)
    passes = recorded.passes()
    names = [one.name for one in passes]
    assert len(passes) > 30 and "ttgir/coalesce" in names and all(one.ir for one in passes)
    for before, after in zip(passes, passes[1:], strict=False):
        assert (before.ir != after.ir) == after.changed, after.name
    one = passes[names.index("ttgir/coalesce")]
    again = live.load(one.ir.encode(), level="ttgir", after_pass=one.name, **given)
    assert again.cache_key != recorded.cache_key
    again[(1,)](out, 5)
    np.testing.assert_array_equal(out.numpy(), np.arange(128) + 5)
    with pytest.raises(trun.UnknownOptionError, match="ttgir/coalesce"):
        live.load(one.ir.encode(), level="ttgir", after_pass="ttgir/nothing", **given)
    with pytest.raises(trun.InvalidIrError):
        live.load(one.ir.encode()[:200], level="ttgir", after_pass=one.name, **given)
    with pytest.raises(trun.ArgumentError, match="a file of level ptx cannot be what the pass ttgir/coalesce left"):
        live.load(one.ir.encode(), level="ptx", after_pass=one.name, **given)
