"""The autotuner, on a real trund: on its emulator, and on a GPU that is the fake driver of the C++ tests.

The fake GPU runs a kernel named `fill` as if it were the compiled one; its times are those of a function call.
"""

from __future__ import annotations

import io
import json
import os
import pathlib
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import launch_kernels
import numpy as np
import pytest
import source_kernels as k
import trun

CONFIGS = [trun.Config({"BLOCK": 32 * warps}, num_warps=warps) for warps in (1, 2, 4)]
SCRIPT = """
import json, sys
import numpy as np
import source_kernels as k
import trun
device, toolchain = sys.argv[1:]
configs = [trun.Config({"BLOCK": 32 * warps}, num_warps=warps) for warps in (1, 2, 4)]
with trun.connect(device=device) as session:
    out = session.zeros(128, dtype="int32")
    kernel = trun.autotune(configs, key=[])(k.fill)
    kernel[lambda meta: (128 // meta["BLOCK"],)](out, 5, toolchain=toolchain)
    assert (out.numpy() == np.arange(128) + 5).all()
    (tuning,) = kernel.tunings.values()
    print(json.dumps([tuning.found, tuning.ranked_by, tuning.config.num_warps, len(tuning.figures)]))
"""


@pytest.fixture(scope="module")
def live(daemon_with_gpu: str) -> Iterator[trun.Session]:
    with trun.connect(daemon_with_gpu, device="emulator:0") as session:
        yield session


@pytest.fixture(scope="module")
def toolchains(live: trun.Session) -> list[str]:
    return [toolchain.name for toolchain in live.toolchains() if not toolchain.unusable_reason]


def in_a_process(address: str, device: str, toolchain: str) -> list[Any]:
    here = str(pathlib.Path(__file__).parent)
    path = os.pathsep.join([here, *(p for p in sys.path if p)])
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, device, toolchain],
        env=os.environ | {"TRUN_ADDRESS": address, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return list(json.loads(done.stdout))


def values(n: int, seed: int = 1) -> Any:
    return np.random.default_rng(seed).standard_normal(n).astype(np.float32)


# What is wrong.


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"key": ["q"]}, "key: accumulate has no argument 'q'"),
        ({"reset_to_zero": ["out"]}, "reset_to_zero: accumulate has no argument 'out'"),
        ({"restore_value": ["out"]}, "restore_value: accumulate has no argument 'out'"),
        ({"use_cuda_graph": True}, "use_cuda_graph is not supported"),
        ({"do_bench": lambda call, quantiles: 1.0, "rep": 10}, "warmup and rep"),
        ({"prune_configs_by": {"early_prune": print}}, "not early_prune"),
        ({"prune_configs_by": {"top_k": 1.5}}, "top_k"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_an_option_that_would_have_no_effect_is_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(trun.errors.ArgumentError, match=words):
        trun.autotune(CONFIGS, **{"key": [], **options})(k.accumulate)


def test_an_option_that_is_none_and_a_file_as_a_configuration_are_refused() -> None:
    with pytest.raises(TypeError, match="nonsense"):
        trun.autotune(CONFIGS, key=[], nonsense=1)(k.accumulate)
    with pytest.raises(trun.errors.ArgumentError, match="ir_override"):
        trun.Config({}, ir_override="kernel.ttgir")


def test_what_the_autotuner_chooses_cannot_be_given_nor_come_from_a_file(live: trun.Session) -> None:
    x, out = live.tensor(values(64)), live.zeros(64)
    with pytest.raises(trun.errors.ArgumentError, match="BLOCK is given"):
        trun.autotune(CONFIGS, key=[])(k.accumulate)[(1,)](x, out, 64, BLOCK=64)
    with pytest.raises(trun.errors.ArgumentError, match="ttir_src= names one kernel"):
        trun.autotune(CONFIGS, key=[])(k.accumulate)[(1,)](x, out, 64, ttir_src="module {}")


def test_configurations_that_fail_are_passed_over_and_where_all_do_one_says_why(live: trun.Session) -> None:
    x = values(64)
    bad = [trun.Config({"BLOCK": 24}), trun.Config({"BLOCK": 64}, num_warps=3)]
    kernel = trun.autotune([*bad, trun.Config({"BLOCK": 64})], key=["n"])(k.accumulate)
    out = live.zeros(64)
    kernel[(1,)](live.tensor(x), out, 64)
    (tuning,) = kernel.tunings.values()
    assert [tuning.figures[c] for c in bad] == [float("inf")] * 2 and tuning.config.kwargs == {"BLOCK": 64}
    assert "power of 2" in tuning.errors[bad[0]] and "num_warps" in tuning.errors[bad[1]]
    with pytest.raises(trun.CompileError, match="none of the 2 configurations of accumulate works here.*power of 2"):
        trun.autotune(bad, key=["n"])(k.accumulate)[(1,)](live.tensor(x), out, 64)


def test_a_configuration_that_does_not_fit_the_device_is_passed_over(live: trun.Session) -> None:
    a, b = (
        values(128 * 512).reshape(128, 512).astype(np.float16),
        values(512 * 128).reshape(512, 128).astype(np.float16),
    )
    configs = [trun.Config({"BLOCK_K": 128}, num_stages=stages) for stages in (5, 2)]
    kernel = trun.autotune(configs, key=["k"], cache_results=False)(launch_kernels.staged_dot)
    out = live.zeros((128, 128))
    kernel[(1,)](live.tensor(a), live.tensor(b), out, 512, N=128)
    (tuning,) = kernel.tunings.values()
    assert tuning.config is configs[1] and "shared" in tuning.errors[configs[0]]
    np.testing.assert_allclose(out.numpy(), a.astype(np.float32) @ b.astype(np.float32), rtol=1e-3, atol=5e-2)


def test_a_tuning_that_is_interrupted_leaves_nothing_behind(live: trun.Session) -> None:
    x, out = live.tensor(values(64)), live.tensor(values(64, 2))
    before = out.numpy().copy()
    is_interrupted = True

    def hook(arguments: dict[str, Any]) -> None:
        if is_interrupted:
            raise KeyboardInterrupt

    configs = [trun.Config({"BLOCK": 64}), trun.Config({"BLOCK": 128}, pre_hook=hook)]
    kernel = trun.autotune(configs, key=[], restore_value=["out_ptr"], cache_results=False)(k.accumulate)
    with pytest.raises(KeyboardInterrupt):
        kernel[(1,)](x, out, 64)
    np.testing.assert_array_equal(out.numpy(), before)
    assert not kernel.tunings
    is_interrupted = False
    kernel[(1,)](x, out, 64)
    np.testing.assert_array_equal(out.numpy(), before + x.numpy())


# What is right.


def test_a_gpu_s_winner_is_found_by_the_next_process_and_belongs_to_gpu_and_toolchain(
    daemon_with_gpu: str, toolchains: list[str]
) -> None:
    newest, other = toolchains[:2]
    # The emulator's ranking comes first, and is no GPU's.
    assert in_a_process(daemon_with_gpu, "emulator:0", newest)[:2] == [False, "warp instructions"]
    first = in_a_process(daemon_with_gpu, "cuda:0", newest)
    assert (first[0], first[1], first[3]) == (False, "time", 3)
    assert in_a_process(daemon_with_gpu, "cuda:0", newest) == [True, "time", first[2], 0]
    assert in_a_process(daemon_with_gpu, "cuda:0", other)[:2] == [False, "time"]
    assert in_a_process(daemon_with_gpu, "cuda:0", other)[:2] == [True, "time"]


def test_a_toolchain_that_changes_under_its_name_is_another(live: trun.Session, monkeypatch: Any) -> None:
    kernel = trun.autotune(CONFIGS, key=[])(k.accumulate)
    there = live.toolchains()
    name = kernel._name_in_cache((), CONFIGS, live, there[0].name)
    assert name == kernel._name_in_cache((), CONFIGS, live, there[0].name)
    unnamed = kernel._name_in_cache((), CONFIGS, live, None)
    rebuilt = [trun.session.Toolchain(t.name, t.version, "0" * 64, t.path, t.adopted, "") for t in there]
    monkeypatch.setattr(live, "toolchains", lambda: rebuilt)
    assert kernel._name_in_cache((), CONFIGS, live, there[0].name) != name
    assert kernel._name_in_cache((), CONFIGS, live, None) != unnamed


def test_milliseconds_of_warmup_and_repetitions_become_launches(daemon_with_gpu: str) -> None:
    asked: list[tuple[int, int]] = []
    with trun.connect(daemon_with_gpu, device="cuda:0") as session:
        out = session.zeros(128, dtype="int32")
        kernel = trun.autotune(CONFIGS[:2], key=[], warmup=0.5, rep=2, cache_results=False)(k.fill)
        call = session._call

        def watched(name: str, request: Any, **options: Any) -> Any:
            if name == "LaunchService.Benchmark":
                asked.append((request.warmup, request.repetitions))
            return call(name, request, **options)

        session._call = watched  # type: ignore[assignment, method-assign]
        kernel[lambda meta: (128 // meta["BLOCK"],)](out, 5)
    assert len(asked) == 4 and asked[0] == asked[2] == (1, 1)
    assert all(repetitions > warmup > 1 for warmup, repetitions in (asked[1], asked[3]))


def test_the_caller_s_clock_decides_and_its_choice_is_not_kept(live: trun.Session) -> None:
    launched: list[int] = []

    def clock(call: Any, quantiles: Any) -> list[float]:
        assert tuple(quantiles) == (0.5, 0.2, 0.8)
        call()
        launched.append(len(launched))
        return [3.0 - len(launched)] * 3  # the last one seems to be the fastest

    x, out = values(64), np.zeros(64, np.float32)
    for _ in range(2):
        launched.clear()
        kernel = trun.autotune(CONFIGS, key=[], do_bench=clock, restore_value=["out_ptr"])(k.accumulate)
        out[:] = 1
        kernel[lambda meta: (trun.cdiv(64, meta["BLOCK"]),)](live.tensor(x), out, 64)
        (tuning,) = kernel.tunings.values()
        assert (len(launched), tuning.config, tuning.ranked_by, tuning.found) == (3, CONFIGS[2], "do_bench", False)
        np.testing.assert_array_equal(out, x + 1)


@pytest.mark.parametrize("kind", ["tensor", "array"])
@pytest.mark.parametrize("option", ["reset_to_zero", "restore_value"])
def test_the_launch_after_a_tuning_finds_its_tensors_as_they_should_be(
    live: trun.Session, kind: str, option: str
) -> None:
    x, old = values(100), values(100, 2)
    out = live.tensor(old) if kind == "tensor" else old.copy()
    kernel = trun.autotune(CONFIGS, key=["n"], cache_results=False, **{option: ["out_ptr"]})(k.accumulate)
    kernel[lambda meta: (trun.cdiv(100, meta["BLOCK"]),)](live.tensor(x), out, 100)
    got = out.numpy() if isinstance(out, trun.Tensor) else out
    np.testing.assert_array_equal(got, x if option == "reset_to_zero" else x + old)


def test_hooks_are_called_around_each_launch_with_all_arguments(live: trun.Session) -> None:
    seen: list[str] = []

    def before(arguments: dict[str, Any]) -> None:
        seen.append(f"before {arguments['BLOCK']} of {arguments['n']}")

    def own(arguments: dict[str, Any]) -> None:
        seen.append(f"own {arguments['BLOCK']}")

    def after(arguments: dict[str, Any], exception: Exception | None) -> None:
        seen.append(f"after {arguments['BLOCK']} {exception}")

    configs = [trun.Config({"BLOCK": 64}, pre_hook=own), trun.Config({"BLOCK": 128})]
    options: dict[str, Any] = {"pre_hook": before, "post_hook": after, "cache_results": False}
    kernel = trun.autotune(configs, key=["n"], **options)(k.accumulate)
    kernel[(1,)](live.tensor(values(50)), live.zeros(50), 50)
    tuned = ["own 64", "before 64 of 50", "after 64 None", "before 128 of 50", "after 128 None"]
    assert seen[:5] == tuned and seen[5:] == (["own 64"] if kernel.best_config is configs[0] else [])


def test_pruning_sees_the_arguments_as_triton_s_does(live: trun.Session) -> None:
    asked: list[Any] = []

    def early(configs: list[trun.Config], arguments: dict[str, Any], **named: Any) -> list[trun.Config]:
        asked.append((arguments["x_ptr"].shape, named))
        return [config for config in configs if config.kwargs["BLOCK"] > 32]

    def model(n: int, BLOCK: int, num_warps: int, **_: Any) -> float:
        asked.append((n, BLOCK, num_warps))
        return BLOCK

    pruning = {"early_config_prune": early, "perf_model": model, "top_k": 0.5}
    kernel = trun.autotune(CONFIGS, key=[], prune_configs_by=pruning)(k.accumulate)
    kernel[(2,)](live.tensor(values(64)), live.zeros(64), n=64)
    assert asked == [((64,), {"n": 64}), (64, 64, 2), (64, 128, 4)]
    assert kernel.best_config == CONFIGS[1]


def test_a_warmup_compiles_every_configuration_and_launches_nothing(live: trun.Session) -> None:
    out = live.zeros(64)
    made = trun.autotune(CONFIGS, key=[])(k.accumulate).warmup(live.tensor(values(64)), out, 64)
    assert [kernel.metadata["num_warps"] for kernel in made] == [1, 2, 4] and not out.numpy().any()


def test_another_option_or_toolchain_is_tuned_for_itself(live: trun.Session, toolchains: list[str]) -> None:
    kernel = trun.autotune(CONFIGS[:2], key=[])(k.accumulate)
    x, out = live.tensor(values(64)), live.zeros(64)
    for options in ({}, {"toolchain": toolchains[1]}, {"num_stages": 1}):
        kernel[(2,)](x, out, 64, **options)
    assert len(kernel.tunings) == 3


def test_configurations_are_compiled_side_by_side(live: trun.Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each compile waits until another one has begun: one after the other, the first would wait in vain."""
    both = threading.Barrier(2)
    load = trun.Session.load

    def watched(session: trun.Session, *args: Any, **options: Any) -> trun.Kernel:
        both.wait(30)
        return load(session, *args, **options)

    monkeypatch.setattr(trun.Session, "load", watched)
    kernel = trun.autotune(CONFIGS[:2], key=[], cache_results=False)(trun.jit(k.accumulate.fn))
    x, out = live.tensor(values(64)), live.zeros(64)
    kernel[(2,)](x, out, 64)
    (tuning,) = kernel.tunings.values()
    assert len(tuning.figures) == 2 and not tuning.errors


def test_a_worker_that_was_lost_decides_nothing_for_other_processes(
    live: trun.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    load, is_lost = trun.Session.load, [True]

    def losing(session: trun.Session, *args: Any, **options: Any) -> trun.Kernel:
        if is_lost[0] and options["options"]["num_warps"] == 1:
            raise trun.errors.WorkerLostError("the worker ended", reason="WORKER_LOST", code="UNAVAILABLE")
        return load(session, *args, **options)

    monkeypatch.setattr(trun.Session, "load", losing)
    x, out = live.tensor(values(64)), live.zeros(64)
    configs = [trun.Config({"BLOCK": 64}, num_warps=warps) for warps in (1, 2)]
    found = []
    for lost in (True, False, False):
        is_lost[0] = lost
        kernel = trun.autotune(configs, key=["n"])(trun.jit(k.accumulate.fn))
        kernel[(1,)](x, out, 64)
        (tuning,) = kernel.tunings.values()
        found.append((tuning.found, len(tuning.errors)))
    assert found == [(False, 1), (False, 0), (True, 0)]


def test_heuristics_choose_from_the_arguments_of_each_launch(live: trun.Session) -> None:
    """An inner size that is no multiple of the block is wrong without masks, and right with them."""
    seen: list[bool] = []

    def even(arguments: dict[str, Any]) -> bool:
        seen.append(arguments["k"] % arguments["BLOCK_K"] == 0)
        return seen[-1]

    kernel = trun.heuristics({"EVEN_K": even})(k.matmul)
    blocks = {"BLOCK_M": 16, "BLOCK_N": 16, "BLOCK_K": 16}
    for inner in (32, 23):
        a, b = (values(s[0] * s[1]).reshape(s).astype(np.float16) for s in ((16, inner), (inner, 16)))
        c = np.zeros((16, 16), np.float32)
        made = kernel[(1, 1)](a, b, c, 16, 16, inner, inner, 16, 16, session=live, **blocks)
        np.testing.assert_allclose(c, a.astype(np.float32) @ b.astype(np.float32), rtol=1e-3, atol=1e-3)
        compiled = k.matmul.warmup(a, b, c, 16, 16, inner, inner, 16, 16, session=live, **blocks, EVEN_K=inner == 32)
        assert compiled.cache_key == made.cache_key
    assert seen == [True, False]


def test_a_bar_is_on_a_terminal_while_configurations_are_tried_and_leaves_nothing(
    live: trun.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    now = [0.0]
    for seconds, is_shown in ((2.0, True), (0.0, False)):
        shown = Terminal()
        monkeypatch.setattr(sys, "stderr", shown)
        monkeypatch.setattr("trun._autotune.time.monotonic", lambda: now[0])

        def hook(arguments: dict[str, Any], seconds: float = seconds) -> None:
            now[0] += seconds

        configs = [trun.Config({"BLOCK": size}, pre_hook=hook) for size in (32, 64)]
        trun.autotune(configs, key=[], cache_results=False)(k.accumulate)[(2,)](
            live.tensor(values(64)), live.zeros(64), 64
        )
        monkeypatch.undo()
        text = shown.getvalue()
        if is_shown:
            assert "\r\x1b[Kautotuning accumulate [########################] 4/4 timed" in text
            assert "[##################......] 3/4 timed" in text and text.endswith("\r\x1b[K")
        else:
            assert text == ""
