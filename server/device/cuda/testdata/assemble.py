#!/usr/bin/env python3
"""Makes the cubins beside this file: from its *.ptx, and from the module of ../../device_conformance.h.

Usage: assemble.py PTXAS        (of Triton 3.6.0: a driver of CUDA 12 loads what it makes)
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
TARGETS = {"conformance": "sm_90", "faults": "sm_90", "print": "sm_90", "hopper": "sm_90", "im2col": "sm_90"}


def main() -> int:
    if len(sys.argv) != 2:
        print(__doc__)
        return 2
    header = (HERE.parents[1] / "device_conformance.h").read_text(encoding="utf-8")
    found = re.search(r'kConformancePtx\[\] = R"\((.*?)\)"', header, re.DOTALL)
    if found is None:
        print("device_conformance.h has no kConformancePtx")
        return 1
    (HERE / "conformance.ptx").write_text(found.group(1), encoding="utf-8")
    for name, arch in TARGETS.items():
        output = HERE / f"{name}.{arch}.cubin"
        subprocess.run([sys.argv[1], f"-arch={arch}", str(HERE / f"{name}.ptx"), "-o", str(output)], check=True)
        print(f"{output.name}: {output.stat().st_size} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
