#!/usr/bin/env python3
"""Holds the sources to the rules of structure of the design: who may include whom, how large a file may grow, and that
modules of one process have names of their own.

Usage: layering_test.py ROOT
"""

from __future__ import annotations

import re
import statistics
import subprocess
import sys
from pathlib import Path

# A room may include itself and what is listed; common/ and proto/ are open to all but their own rules. The most
# specific prefix decides.
ALLOWED: dict[str, tuple[str, ...]] = {
    "common/base": (),
    "common/ir": ("common/base",),
    "common/ring": ("common/base",),
    "common/subprocess": ("common/base",),
    "common/telemetry": ("common/base",),
    "common/rpc": ("common/base", "common/ir", "common/telemetry"),
    "server/artifact": ("common/base", "common/ir"),
    "server/cache": ("common/base", "common/ir", "common/telemetry"),
    "server/toolchain": ("common/base", "common/ir", "common/subprocess", "common/telemetry"),
    "server/device": ("common/base", "common/ir"),
    "server/device/emulator": ("common/base", "common/ir", "server/device"),
    "server/device/cuda": ("common/base", "common/ir", "server/artifact", "server/device"),
    "server/executor/runtime": ("common/base", "common/ir", "common/ring", "server/device", "server/executor/protocol"),
    "server/executor/protocol": ("common/base", "common/ir", "server/device"),
    "server/executor/control": (
        "common/base",
        "common/ir",
        "common/subprocess",
        "server/device",
        "server/executor/protocol",
        "server/executor/runtime",
    ),
    "server/compile": ("common/base", "common/ir", "server/artifact", "server/cache", "server/toolchain"),
    "server/session": (
        "common/base",
        "common/ir",
        "server/artifact",
        "server/device",
        "server/executor/control",
    ),
    "server/service": (
        "common/base",
        "common/ir",
        "common/rpc",
        "common/telemetry",
        "server/compile",
        "server/cache",
        "server/toolchain",
        "server/session",
        "server/artifact",
        "server/executor/control",
        "server/device",
    ),
    "server/main": ("common", "server"),
    "client": ("common",),
}
# Only these folders may include such headers, in quotes or in angle brackets. Tests may include what they test.
HEADER_HOMES: dict[str, tuple[str, ...]] = {
    r"grpc(pp)?/|(?!trun/).*\.grpc\.pb\.h": ("common/rpc", "server/service", "server/main", "client/cpp"),
    r"trun/v\d+/": ("common/rpc", "server/service", "client/cpp"),  # messages and stubs of the public API
    r"trun/internal/": ("server/executor",),  # what trund and an executor say to each other
    r"rocksdb/": ("server/cache/rocksdb",),
    r"(cuda|cuda_runtime|cuda_runtime_api|driver_types)\.h": ("server/device/cuda",),
}
STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
MAX_SOURCE_LINES = 800
MAX_TEST_LINES = 1000
FORBIDDEN_NAME = re.compile(r"(^|_)(util|utils|helper|helpers|core|engine|manager)(_|\.|$)")
FORK_OR_EXEC = re.compile(r"(?<![\w.:>])(?:::)?(?:v?fork|f?exec[vl]p?e?|posix_spawnp?|popen|system|clone3?)\s*\(")


def room_of(path: str) -> str | None:
    best = None
    for room in ALLOWED:
        if path.startswith(room + "/") and (best is None or len(room) > len(best)):
            best = room
    return best


def lies_in(path: str, folders: tuple[str, ...]) -> bool:
    return any(path.startswith(folder + "/") for folder in folders)


def is_test(path: str) -> bool:
    name = Path(path).name
    return path.startswith(("tests/", "bench/")) or any(
        mark in name for mark in ("_test.", "_conformance.", "fake_", "_fuzzer.", "_bench.")
    )


def check_file(root: Path, path: str) -> list[str]:
    problems = []
    text = (root / path).read_text(encoding="utf-8", errors="replace")
    lines = text.count("\n")
    limit = MAX_TEST_LINES if is_test(path) else MAX_SOURCE_LINES
    if lines > limit:
        problems.append(f"{path}: {lines} lines; split it by what it does (limit {limit})")
    if FORBIDDEN_NAME.search(Path(path).stem):
        problems.append(f"{path}: the name says nothing; use the field's noun")
    if not path.endswith((".cc", ".h")):
        return problems
    room = room_of(path)
    for number, line in enumerate(text.splitlines(), 1):
        if is_test(path):
            break
        if room:
            match = re.match(r'\s*#\s*include\s*[<"]((?:common|server|client)/[^">]+)[">]', line)
            if match:
                target = match.group(1)
                allowed = (room, *ALLOWED[room])
                if not any(target.startswith(prefix + "/") for prefix in allowed):
                    problems.append(f"{path}:{number}: {room} may not include {target}")
        for pattern, homes in HEADER_HOMES.items():
            if re.match(r'\s*#\s*include\s*[<"](' + pattern + ")", line) and not lies_in(path, homes):
                problems.append(f"{path}:{number}: only {', '.join(homes)} may include this header")
        code = STRING.sub('""', line).split("//")[0]
        if FORK_OR_EXEC.search(code) and not lies_in(path, ("common/subprocess",)):
            problems.append(f"{path}:{number}: fork and exec belong to common/subprocess")
    return problems


def check_modules(files: list[str]) -> list[str]:
    """One pytest process runs all of tests/, whose folders then lie on one path: the first module of a name wins."""
    folders: dict[str, str] = {}
    problems = []
    for path in files:
        folder, _, name = path.rpartition("/")
        if not path.startswith("tests/") or not name.endswith(".py") or name == "conftest.py":
            continue
        other = folders.setdefault(name, folder)
        if other != folder:
            problems.append(f"{path}: {other} has a module of that name")
    return problems


def main() -> int:
    root = Path(sys.argv[1]).resolve()
    listing = subprocess.run(["git", "-C", str(root), "ls-files"], capture_output=True, text=True, check=True)
    files = [f for f in listing.stdout.splitlines() if f.endswith((".cc", ".h", ".py")) and (root / f).exists()]
    if len(files) < 20:
        print(f"only {len(files)} sources found under {root}: this test would see nothing")
        return 1
    problems = [problem for path in files for problem in check_file(root, path)] + check_modules(files)

    def lengths(suffix: str) -> list[int]:
        return sorted(
            (root / f).read_text(encoding="utf-8", errors="replace").count("\n")
            for f in files
            if f.endswith(suffix) and not is_test(f)
        )

    for suffix, median_limit in ((".h", 100), (".cc", 200)):
        sizes = lengths(suffix)
        median, p90 = statistics.median(sizes), sizes[int(0.9 * (len(sizes) - 1))]
        print(f"{suffix}: {len(sizes)} files, median {median} lines, p90 {p90}, largest {sizes[-1]}")
        if median > median_limit or p90 > 500:
            problems.append(f"{suffix} files have grown: median {median} (≤ {median_limit}), p90 {p90} (≤ 500)")
    for problem in problems:
        print(problem)
    print(f"{len(files)} files, {len(problems)} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
