"""Writes src/trun/_names.py: every public name of Triton's languages, of all installed versions together.

python generate_names.py TOOLCHAINS_FOLDER     (a Triton in each sub-folder, as deploy/toolchains/install.sh makes)
"""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys

OUT = pathlib.Path(__file__).resolve().parent / "src" / "trun" / "_names.py"
ROOTS = ("triton.language", "triton.experimental.gluon")
WALK = """
import importlib, json, pkgutil, sys, types
found = {}
def walk(name):
    try:
        module = importlib.import_module(name)
    except Exception:
        return
    if name in found:
        return
    names = [n for n in dir(module) if not n.startswith("_") or n.startswith("_experimental")]
    keep = []
    found[name] = keep
    for n in names:
        value = getattr(module, n)
        if isinstance(value, types.ModuleType):
            if value.__name__.startswith(ROOTS):
                keep.append(n)
        elif getattr(value, "__module__", "triton").startswith("triton") or isinstance(value, (int, float, str)):
            keep.append(n)
    for info in pkgutil.iter_modules(getattr(module, "__path__", ())):
        if not info.name.startswith("_"):
            walk(f"{name}.{info.name}")
ROOTS = tuple(sys.argv[1:])
for root in ROOTS:
    walk(root)
print(json.dumps(found))
"""


def main() -> int:
    merged: dict[str, set[str]] = {}
    for python in sorted(pathlib.Path(sys.argv[1]).glob("*/bin/python")):
        result = subprocess.run([python, "-c", WALK, *ROOTS], check=True, capture_output=True, text=True)
        for module, names in json.loads(result.stdout).items():
            merged.setdefault(module, set()).update(names)
    lines = [
        '"""Public names of Triton\'s languages, all versions together. Written by generate_names.py; do not edit."""',
        "",
        "from __future__ import annotations",
        "",
        "NAMES: dict[str, str] = {",
    ]
    for module in sorted(merged):
        text = " ".join(sorted(merged[module]))
        parts, row = [], ""
        for word in text.split():
            if len(row) + len(word) > 96:
                parts.append(row)
                row = ""
            row += word + " "
        parts.append(row)
        lines.append(f'    "{module}": (')
        lines += [f'        "{part}"' for part in parts]
        lines.append("    ),")
    OUT.write_text("\n".join([*lines, "}"]) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
