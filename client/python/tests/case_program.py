"""How a program of cases tells what came of each: a line of JSON a case, its error empty where it passed."""

from __future__ import annotations

import json
import traceback
from collections.abc import Callable, Mapping
from typing import Any


def run_cases(cases: Mapping[str, Callable[[], Any]]) -> None:
    for name, function in cases.items():
        error = ""
        try:
            function()
        except Exception:
            error = traceback.format_exc()
        print(json.dumps({"case": name, "error": error}), flush=True)
