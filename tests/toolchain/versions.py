"""Which versions the tests run over."""

from __future__ import annotations

import os

from compatibility import VERSIONS
from worker import TOOLCHAINS

# All that are there, of those that trun supports.
INSTALLED = [version for version in VERSIONS if (TOOLCHAINS / version / "bin/python").exists()]
# Where a test costs the square of their number, or minutes: one of each kind, all of them with TRUN_ALL_VERSIONS=1.
ALL = os.environ.get("TRUN_ALL_VERSIONS") == "1"
SAMPLE = (
    INSTALLED if ALL else [version for version in INSTALLED if version in ("3.0.0", "3.2.0", "3.4.0", "3.6.0", "3.9.0")]
)
