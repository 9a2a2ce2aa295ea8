"""The autotuner on a GPU: a first process times the configurations, a second one finds the winner.

autotune.py            on TRUN_DEVICE (cuda:0); needs the trun package, NumPy and a daemon with a Triton
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import trun
import trun.language

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "bench/sweep"))


def tune(size: int = 1024) -> int:
    """One process: tunes the sweep's matmul, and says what it knows."""
    sys.modules.update({"triton": trun, "triton.language": trun.language})  # a real Triton there is not meant
    import kernel

    rng = np.random.default_rng(1)
    a, b = (rng.standard_normal((size, size)).astype(np.float16) for _ in range(2))
    with trun.connect(device=os.environ.get("TRUN_DEVICE", "cuda:0")) as session:
        c = session.zeros((size, size), dtype="float16")

        def grid(meta: dict[str, int]) -> tuple[int, int]:
            return (trun.cdiv(size, meta["BLOCK_M"]), trun.cdiv(size, meta["BLOCK_N"]))

        kernel.matmul[grid](session.tensor(a), session.tensor(b), c, *(size,) * 6)
        expected = a.astype(np.float32) @ b.astype(np.float32)
        worst = float(np.abs(c.numpy().astype(np.float32) - expected).max())
        assert worst <= float(np.abs(expected).max()) * 2**-10, worst
        (tuning,) = kernel.matmul.tunings.values()
    figures = {str(config): figure for config, figure in tuning.figures.items()}
    print(json.dumps([tuning.found, tuning.ranked_by, str(tuning.config), figures]))
    return 0


def main() -> int:
    answers = []
    for _ in range(2):
        done = subprocess.run([sys.executable, __file__, "tune"], capture_output=True, text=True, timeout=300)
        if done.returncode != 0:
            sys.exit(done.stderr)
        answers.append(json.loads(done.stdout))
    (found, ranked_by, winner, figures), again = answers
    assert not found and ranked_by == "time" and len(figures) == 32, answers[0][:3]
    times = sorted((time * 1e6, config) for config, time in figures.items() if time != float("inf"))
    print(f"{len(times)} of 32 configurations of a matmul of 1024 run: {times[0][0]:.1f} to {times[-1][0]:.1f} µs")
    print(f"winner: {winner}")
    assert again == [True, "time", winner, {}], again
    print("a second process found it in the daemon's cache and timed nothing")
    return 0


if __name__ == "__main__":
    sys.exit(tune() if sys.argv[1:] == ["tune"] else main())
