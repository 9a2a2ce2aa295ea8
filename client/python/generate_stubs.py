"""Generates trun/v1 (the messages of the public API) from the .proto files.

setup.py calls it for a wheel; in a checkout:  python generate_stubs.py  writes src/trun/v1. TRUN_PROTOC names another
protoc than grpcio-tools': what an older one makes also runs on older protobuf packages.
"""

from __future__ import annotations

import os
import pathlib
import re
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent


def proto_root() -> pathlib.Path:
    """The folder that holds trun/v1/*.proto: the repository's, or the copy inside a source distribution."""
    for root in (HERE / "proto", HERE.parent.parent / "proto"):
        if (root / "trun" / "v1" / "session.proto").is_file():
            return root
    raise FileNotFoundError("trun/v1/*.proto is neither in proto/ nor in ../../proto: build from a whole checkout")


def proto_files() -> list[pathlib.Path]:
    return sorted((proto_root() / "trun" / "v1").glob("*.proto"))


def runtime_version() -> str:
    """The oldest protobuf package that runs what generate() makes: generated code refuses one older than its protoc."""
    protoc = os.environ.get("TRUN_PROTOC", "")
    if not protoc:
        from google.protobuf import __version__

        return str(__version__)
    says = subprocess.run([protoc, "--version"], check=True, capture_output=True, text=True).stdout.strip()
    found = re.fullmatch(r"libprotoc 3\.(2\d\.\d+)", says)
    if not found:
        raise RuntimeError(f"TRUN_PROTOC: {protoc} is '{says}'; 3.20 to 3.29 are known (4.20 to 4.29 of protobuf)")
    return f"4.{found[1]}"


def generate(out: pathlib.Path) -> None:
    """Writes OUT/trun/v1/*_pb2.py and .pyi."""
    root = proto_root()
    package = out / "trun" / "v1"
    package.mkdir(parents=True, exist_ok=True)
    arguments = [f"-I{root}", f"--python_out={out}", f"--pyi_out={out}", *map(str, proto_files())]
    if "TRUN_PROTOC" in os.environ:
        subprocess.run([os.environ["TRUN_PROTOC"], *arguments], check=True)
    else:
        import grpc_tools
        from grpc_tools import protoc

        well_known = pathlib.Path(grpc_tools.__file__).parent / "_proto"
        if protoc.main(["protoc", f"-I{well_known}", *arguments]) != 0:
            raise RuntimeError("protoc refused the .proto files")
    (package / "__init__.py").write_text('"""Messages of the public API trun.v1, generated."""\n')


if __name__ == "__main__":
    generate(pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "src")
