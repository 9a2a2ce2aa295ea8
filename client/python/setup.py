"""Builds the package: what pyproject.toml cannot say is generating trun/v1 from the repository's .proto files, and the
native launcher of programs on a GPU (native/), which works without, too: then Triton's own launches.

In a checkout:  python setup.py build_ext --inplace  makes src/trun/triton/_native.abi3.so."""

from __future__ import annotations

import pathlib
import shutil
import sys
from typing import Any

from setuptools import Extension, setup
from setuptools.command.build_py import build_py
from setuptools.command.sdist import sdist

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import generate_stubs  # noqa: E402


class BuildWithStubs(build_py):  # type: ignore[misc]  # setuptools has no types
    """Generates into the source tree first, so that setuptools finds the package where it expects it."""

    def run(self) -> None:
        generate_stubs.generate(HERE / "src")
        super().run()


class SdistWithProtos(sdist):  # type: ignore[misc]
    """Takes the .proto files along: a source distribution is built where there is no repository."""

    def make_release_tree(self, base_dir: str, files: Any) -> None:
        super().make_release_tree(base_dir, files)
        base = pathlib.Path(base_dir)
        target = base / "proto" / "trun" / "v1"
        target.mkdir(parents=True, exist_ok=True)
        for file in generate_stubs.proto_files():
            shutil.copy(file, target / file.name)
        shutil.copy(HERE / "generate_stubs.py", base / "generate_stubs.py")
        shutil.rmtree(base / "src" / "trun" / "v1", ignore_errors=True)


def native_launcher() -> Extension:
    """In Python's stable ABI and with nothing but the C library: one file for every Python from 3.10 on."""
    native = HERE / "native"
    return Extension(
        "trun.triton._native",
        sources=sorted(f"native/{file.name}" for file in native.glob("*.cc")),
        depends=sorted(f"native/{file.name}" for file in native.glob("*.h")),
        include_dirs=["."],
        language="c++",
        extra_compile_args=["-std=c++20", "-O2", "-g0", "-fno-exceptions", "-fno-rtti", "-fvisibility=hidden"],
        extra_link_args=["-Wl,--as-needed", "-s"],
        py_limited_api=True,
        optional=True,
    )


def dependencies() -> list[str]:
    return ["grpcio>=1.51", f"protobuf>={generate_stubs.runtime_version()}", "numpy>=1.24", "ml_dtypes>=0.3"]


# setuptools looks at the packages before it builds: the generated one has to be a folder by then.
(HERE / "src" / "trun" / "v1").mkdir(exist_ok=True)
setup(
    cmdclass={"build_py": BuildWithStubs, "sdist": SdistWithProtos},
    install_requires=dependencies(),
    ext_modules=[native_launcher()],
    options={"bdist_wheel": {"py_limited_api": "cp310"}},
)
