"""Generates trun/v1 (the messages of the public API) from the .proto files.

setup.py calls it for a wheel; in a checkout:  python generate_stubs.py  writes src/trun/v1.
"""

from __future__ import annotations

import pathlib
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


def generate(out: pathlib.Path) -> None:
    """Writes OUT/trun/v1/*_pb2.py and .pyi."""
    import grpc_tools
    from grpc_tools import protoc

    root = proto_root()
    package = out / "trun" / "v1"
    package.mkdir(parents=True, exist_ok=True)
    well_known = pathlib.Path(grpc_tools.__file__).parent / "_proto"
    arguments = [
        "protoc",
        f"-I{root}",
        f"-I{well_known}",
        f"--python_out={out}",
        f"--pyi_out={out}",
    ]
    if protoc.main(arguments + [str(file) for file in proto_files()]) != 0:
        raise RuntimeError("protoc refused the .proto files")
    (package / "__init__.py").write_text('"""Messages of the public API trun.v1, generated."""\n')


if __name__ == "__main__":
    generate(pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "src")
