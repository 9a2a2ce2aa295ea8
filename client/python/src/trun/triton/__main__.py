"""python -m trun.triton [options] script.py [arguments]: runs a Triton program unchanged on the daemon."""

from __future__ import annotations

import argparse
import runpy
import sys

from trun.triton import PLACEMENTS, install


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m trun.triton", description=__doc__)
    parser.add_argument("--placement", choices=PLACEMENTS, help="where kernels run; by default what the machine has")
    parser.add_argument("--arch", help="which emulator: sm_80, sm_90")
    parser.add_argument(
        "--cpu-as-cuda", action="store_true", default=None, help="torch's cuda devices are the emulator"
    )
    parser.add_argument("--compile", choices=("daemon", "local"), help="who compiles below the first level")
    parser.add_argument("--address", help="unix:/path of the daemon's socket")
    parser.add_argument("-m", dest="module", action="store_true", help="the program is a module, as with python -m")
    parser.add_argument("script")
    parser.add_argument("arguments", nargs=argparse.REMAINDER)
    given = parser.parse_args()
    install(
        placement=given.placement,
        arch=given.arch,
        cpu_as_cuda=given.cpu_as_cuda,
        compile=given.compile,
        address=given.address,
    )
    sys.argv = [given.script, *given.arguments]
    if given.module:
        sys.path.insert(0, "")
        runpy.run_module(given.script, run_name="__main__", alter_sys=True)
    else:
        import os.path

        sys.path.insert(0, os.path.dirname(os.path.abspath(given.script)))
        runpy.run_path(given.script, run_name="__main__")


if __name__ == "__main__":
    main()
