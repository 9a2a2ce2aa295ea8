"""Steps of random programs that copy asynchronously or wait at an mbarrier."""

from __future__ import annotations

from fuzz_steps import ROW, SLOT, move, other_swap, step, store_swap, widths
from fuzz_writer import Writer
from program_tree import Step

BULK = 512  # bytes of a program's part of the answer that bulk copies write


def copy(w: Writer) -> Step:
    """cp.async from this thread's line of the input to its own shared memory."""
    size = (4, 8, 16)[w.pick(3)]
    cache = w.one("ca", "cg") if size == 16 else "ca"
    source, target = size * w.pick(ROW // size), size * w.pick(SLOT // size)
    kept = w.one("", "", f", {w.pick(size + 1)}", f", {w.register('P')}")
    wait = w.one("cp.async.wait_all;", "cp.async.commit_group;\ncp.async.wait_group 0;").split("\n")
    bits, vector, offset = widths(w, SLOT)
    return step(
        f"cp.async.{cache}.shared.global [%slot+{target}], [%row+{source}], {size}{kept};",
        *wait,
        move(w, "ld.shared", bits, f"%slot+{offset}", True, vector),
    )


def mbarrier_exchange(w: Writer, threads: int, number: int, label: int) -> Step:
    """As a barrier would: everyone arrives, everyone waits for the first phase of an mbarrier that is used once."""
    store, bits, vector = store_swap(w)
    place = f"[%bar+{8 * number}]"
    arrive, wait = (
        ("mbarrier.arrive.shared.b64 %w11, {};", "mbarrier.test_wait.shared.b64 %q, {}, %w11;"),
        ("mbarrier.arrive.shared.b64 _, {};", "mbarrier.test_wait.parity.shared.b64 %q, {}, 0;"),
        ("mbarrier.arrive.release.cta.shared::cta.b64 _, {}, 1;", "mbarrier.try_wait.parity.shared.b64 %q, {}, 0;"),
        ("cp.async.mbarrier.arrive.noinc.shared.b64 {};", "mbarrier.try_wait.parity.shared.b64 %q, {}, 0;"),
    )[w.pick(4)]
    meet = [arrive.format(place), f"W{label}:", wait.format(place), f"@!%q bra W{label};"]
    return step("bar.sync 0;", store, *meet, *other_swap(w, threads, bits, vector), "bar.sync 0;")


def bulk_load(w: Writer, threads: int, number: int, label: int) -> Step:
    """The first thread has a piece of the input brought to everyone's part of shared memory."""
    size = 16 * (1 + w.pick(threads))
    place = f"[%bar+{8 * number}]"
    bits, vector, offset = widths(w, 16)
    return step(
        "bar.sync 0;",
        "setp.eq.u32 %q, %tx, 0;",
        "fence.proxy.async;",
        f"@%q mbarrier.init.shared.b64 {place}, 1;",
        "fence.mbarrier_init.release.cluster;" if w.pick(2) else "fence.proxy.async;",
        "bar.sync 0;",
        f"@%q mbarrier.arrive.expect_tx.shared.b64 _, {place}, {size};",
        "@%q cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes "
        f"[%swaps], [%first+{16 * w.pick(40)}], {size}, {place};",
        f"W{label}:",
        f"mbarrier.try_wait.parity.shared.b64 %q, {place}, 0;",
        f"@!%q bra W{label};",
        f"rem.u32 %t0, %tx, {size // 16};",
        "mad.lo.u32 %t0, %t0, 16, %swaps;",
        move(w, "ld.shared", bits, f"%t0+{offset}", True, vector),
        "bar.sync 0;",
    )


def bulk_store(w: Writer, threads: int) -> Step:
    """What everyone put into shared memory, or sums with what is there, to this program's part of the answer."""
    store, _, _ = store_swap(w)
    size = 16 * (1 + w.pick(min(threads, BULK // 16)))
    kind = w.one(
        "cp.async.bulk.global",
        *(f"cp.reduce.async.bulk.global.{t}" for t in ("add.u32", "xor.b32", "min.s32", "max.u64", "inc.u32")),
    )
    opcode = (
        "cp.async.bulk.global.shared::cta.bulk_group"
        if kind == "cp.async.bulk.global"
        else (f"cp.reduce.async.bulk.global.shared::cta.bulk_group.{kind.split('.global.')[1]}")
    )
    return step(
        "bar.sync 0;",
        store,
        "fence.proxy.async;",
        "bar.sync 0;",
        "setp.eq.u32 %q, %tx, 0;",
        f"@%q {opcode} [%bulk], [%swaps], {size};",
        "@%q cp.async.bulk.commit_group;",
        "@%q cp.async.bulk.wait_group 0;",
        "bar.sync 0;",
    )
