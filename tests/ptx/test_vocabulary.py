"""A sample of tests/ptx_vocabulary.py for the versions that set-up installs; by hand it runs whole."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TOOLCHAINS = Path(os.environ.get("TRUN_TOOLCHAINS_DIR", ROOT / "build/toolchains"))


@pytest.mark.parametrize("version", ["3.4.0", "3.9.0"])
def test_what_triton_emits_loads_gives_numpys_results_and_is_clean(version: str) -> None:
    build = os.environ.get("TRUN_BUILD_DIR", str(ROOT / "build/dev"))
    command = [sys.executable, str(ROOT / "tests/ptx_vocabulary.py"), "--build", build, "--toolchains", str(TOOLCHAINS)]
    done = subprocess.run(
        [*command, "--versions", version, "--sample", "24", "--check", "uninit,race,async"],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
