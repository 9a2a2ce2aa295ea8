#!/usr/bin/env python3
"""Makes canary_cubins.h beside this file from canary.ptx.

Usage: assemble.py PTXAS PTXAS_BLACKWELL        (both of Triton 3.6.0)
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
HEADER = """// Made by assemble.py from canary.ptx.
#ifndef TRUN_SERVER_EXECUTOR_CONTROL_CANARY_CANARY_CUBINS_H_
#define TRUN_SERVER_EXECUTOR_CONTROL_CANARY_CANARY_CUBINS_H_

#include <cstddef>

namespace trun {

struct CanaryCubin {
  int arch;
  const unsigned char* bytes;
  size_t size;
};

// clang-format off
"""


def main() -> int:
    if len(sys.argv) != 3:
        print(__doc__)
        return 2
    text, rows = HEADER, ""
    for arch, ptxas in ((75, 1), (80, 1), (90, 1), (100, 2), (120, 2)):
        with tempfile.TemporaryDirectory() as folder:
            output = Path(folder) / "canary.cubin"
            command = [sys.argv[ptxas], f"-arch=sm_{arch}", str(HERE / "canary.ptx"), "-o", str(output)]
            subprocess.run(command, check=True)
            cubin = output.read_bytes()
        text += f"inline constexpr unsigned char kCanary{arch}[] = {{\n"
        for at in range(0, len(cubin), 40):
            text += "  " + ",".join(str(byte) for byte in cubin[at : at + 40]) + ",\n"
        text += "};\n"
        rows += f"    {{{arch}, kCanary{arch}, sizeof(kCanary{arch})}},\n"
    text += f"inline constexpr CanaryCubin kCanaryCubins[] = {{\n{rows}}};\n// clang-format on\n\n"
    text += "}  // namespace trun\n\n#endif  // TRUN_SERVER_EXECUTOR_CONTROL_CANARY_CANARY_CUBINS_H_\n"
    (HERE / "canary_cubins.h").write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
