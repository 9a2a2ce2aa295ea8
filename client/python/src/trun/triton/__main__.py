"""python -m trun.triton [options] script.py [arguments]: runs a Triton program unchanged on the daemon.

The Python processes that the program starts are under it too.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import runpy
import sys

from trun.triton import LAUNCHERS, PLACEMENTS, install


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m trun.triton", description=__doc__)
    parser.add_argument("--placement", choices=PLACEMENTS, help="where kernels run; by default what the machine has")
    parser.add_argument("--arch", help="which emulator: sm_80, sm_90")
    parser.add_argument(
        "--cpu-as-cuda", action="store_true", default=None, help="torch's cuda devices are the emulator"
    )
    parser.add_argument("--compile", choices=("daemon", "local"), help="who compiles below the first level")
    parser.add_argument("--launcher", choices=LAUNCHERS, help="who launches on a GPU, in-process")
    parser.add_argument("--address", help="unix:/path of the daemon's socket")
    parser.add_argument("-m", dest="module", action="store_true", help="the program is a module, as with python -m")
    parser.add_argument("script")
    parser.add_argument("arguments", nargs=argparse.REMAINDER)
    given = parser.parse_args()
    names = ("placement", "arch", "cpu_as_cuda", "compile", "launcher", "address")
    options = {name: value for name in names if (value := getattr(given, name)) is not None}
    install(**options)
    _hand_on(options)
    sys.argv = [given.script, *given.arguments]
    if given.module:
        sys.path.insert(0, "")
        runpy.run_module(given.script, run_name="__main__", alter_sys=True)
    else:
        sys.path.insert(0, os.path.dirname(os.path.abspath(given.script)))
        runpy.run_path(given.script, run_name="__main__")


def _hand_on(options: dict[str, object]) -> None:
    """To the Python processes that this one starts."""
    package = pathlib.Path(__file__).resolve().parent
    os.environ["TRUN_TRITON_INSTALL"] = json.dumps(options)
    paths = [str(package / "_children"), str(package.parents[1]), os.environ.get("PYTHONPATH", "")]
    os.environ["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)


if __name__ == "__main__":
    main()
