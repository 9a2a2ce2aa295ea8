"""One device against the emulator, through the Python client: from a checkout or from an unpacked bundle.

TRUN_CONFORMANCE_DEVICE (cuda:0) is the device; where the daemon has none that works, all tests are skipped with its
reason. Needs trun-client (PATH, bin/ of the bundle, or TRUN_BUILD_DIR), the trun package, NumPy, ml_dtypes and one
Triton: that of TRUN_TOOLCHAINS_DIR, else of the Python that runs the tests.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
DEVICE = os.environ.get("TRUN_CONFORMANCE_DEVICE", "cuda:0")
# One row for each comparison: kernel, level, verdict.
ROWS: list[tuple[str, str, str]] = []


def find_client() -> str:
    build = os.environ.get("TRUN_BUILD_DIR", str(ROOT / "build/dev"))
    for place in (ROOT / "bin/trun-client", Path(build) / "bin/trun-client"):
        if place.is_file():
            return str(place)
    return shutil.which("trun-client") or ""


class Box:
    """A daemon of its own with the device and an emulator of the same architecture."""

    def __init__(self, client: str, folder: Path) -> None:
        self.client, self.folder = client, folder
        self.address = f"unix:{folder}/trund.sock"
        self.environment = dict(os.environ, TRUN_ADDRESS=self.address, HOME=str(folder))
        self.emulator = ""
        self.target = ""

    def __call__(self, *words: str) -> Any:
        done = subprocess.run([self.client, *words], env=self.environment, capture_output=True, text=True, timeout=120)
        if done.returncode != 0:
            raise RuntimeError(f"trun-client {' '.join(words)}: exit {done.returncode}\n{done.stdout}{done.stderr}")
        return json.loads(done.stdout) if "--json" in words else done.stdout

    def start(self) -> str:
        """Returns why the device cannot be tested; empty where it can."""
        emulators = ["--emulator", "sm_90", "--emulator", "sm_90", "--emulator", "sm_80"]
        self("daemon", "start", "--until-idle", "--", "--cache-dir", str(self.folder / "cache"), *emulators)
        devices = {device["device"]: device for device in self("devices", "--json")["devices"]}
        if DEVICE not in devices:
            return f"no device {DEVICE} here; the daemon has {', '.join(devices)}"
        if not devices[DEVICE]["usable"]:
            return f"{DEVICE} cannot be used: {devices[DEVICE]['unusable_reason']}"
        self.target = devices[DEVICE]["target"]
        same = [name for name, device in devices.items() if device["target"] == self.target and name != DEVICE]
        self.emulator = next((name for name in same if name.startswith("emulator:")), "emulator:2")
        if not self("toolchains", "list", "--json")["toolchains"]:
            self("toolchains", "adopt", sys.executable)
        return ""

    def stop(self) -> None:
        self("daemon", "stop")
