"""Compiles the cases of corpus.py to PTX with the Triton of the running interpreter; needs no GPU, torch or NumPy.

usage: python lower.py OUT_FOLDER ARCH[,ARCH...] [NAME | ARCH/NAME ...]
A name is a case's, or that of one expression of a case.
Writes OUT_FOLDER/smARCH/CASE.ptx and CASE.json with what a launch needs, and OUT_FOLDER/smARCH/refused.json with what
this Triton itself refuses: case → why, in a line. Goes on where a process that crashed stopped.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import corpus
import corpus_cases
import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.backends.nvidia.compiler import CUDABackend
from triton.compiler import ASTSource

VERSION = tuple(int(part) for part in triton.__version__.split(".")[:2])


def stop_at_ptx() -> None:
    """What the emulator runs is PTX: assembling it would cost most of the time."""
    add_stages, construct = CUDABackend.add_stages, CUDABackend.__init__

    def add_stages_to_ptx(self: CUDABackend, stages: dict[str, Any], *rest: Any) -> None:
        add_stages(self, stages, *rest)
        del stages["cubin"]

    def construct_for_ptx(self: CUDABackend, target: GPUTarget) -> None:
        construct(self, target)
        self.binary_ext = "ptx"

    CUDABackend.add_stages, CUDABackend.__init__ = add_stages_to_ptx, construct_for_ptx


def source_of(kernel: Any, case: corpus_cases.Case) -> ASTSource:
    order = list(kernel.arg_names)
    constants = {
        key: getattr(tl, value[3:]) if isinstance(value, str) and value.startswith("tl.") else value
        for key, value in case.constants.items()
    }
    divisible = [i for i, key in enumerate(order) if case.signature.get(key, "").startswith("*") and case.aligned]
    if VERSION >= (3, 3):
        signature = {key: case.signature.get(key, "constexpr") for key in order}
        of = ASTSource
        if case.module == "gluon_kernels":
            from triton.experimental.gluon._runtime import GluonASTSource as of
        return of(kernel, signature, constants, {(i,): [["tt.divisibility", 16]] for i in divisible})
    signature = {key: case.signature[key] for key in order if key in case.signature}
    if VERSION >= (3, 2):
        from triton.backends.compiler import AttrsDescriptor

        attributes = AttrsDescriptor.from_dict(
            {"arg_properties": {"tt.divisibility": divisible}, "cls": "AttrsDescriptor"}
        )
    else:
        from triton.compiler.compiler import AttrsDescriptor

        attributes = AttrsDescriptor(divisible_by_16=tuple(divisible), equal_to_1=())
    return ASTSource(kernel, signature, constants, attributes)


class Log:
    """What Triton's libraries write to descriptor 2, in a file that outlives a process that they end."""

    def __init__(self, path: Path) -> None:
        self.descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        self.before = self.text()
        self.terminal = os.dup(2)
        os.dup2(self.descriptor, 2)

    def text(self) -> str:
        return os.pread(self.descriptor, 1 << 20, 0).decode(errors="replace")

    def clear(self) -> None:
        sys.stderr.flush()
        os.ftruncate(self.descriptor, 0)

    def close(self) -> None:
        os.dup2(self.terminal, 2)
        os.close(self.descriptor)


def reason(error: BaseException | None, log: str) -> str:
    """One line: what was raised at first (None: the process ended), and the first complaint of LLVM, MLIR or ptxas."""
    while error is not None and (cause := error.__cause__ or error.__context__) is not None:
        if isinstance(cause, subprocess.CalledProcessError):
            break  # Triton's own words for it quote ptxas
        error = cause
    text = "" if error is None else str(error)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    head = "it ends Triton's process" if error is None else ": ".join([type(error).__name__, *lines[:1]]).rstrip(":")
    pattern = r"(?:LLVM ERROR|\berror\s*|\bfatal\s*): *(\S[^\n]*)|(Assertion [^\n]+)"
    found = (match[1] or match[2] for match in re.finditer(pattern, f"{text}\n{log}"))
    told = next((line.strip() for line in found if line.strip() not in head), "")
    return f"{head}: {told}"[:300] if told else head


def compile_case(kernel: Any, case: corpus_cases.Case, arch: int, folder: Path, log: Log) -> str | None:
    """None, or why Triton refuses."""
    options = dict(case.options)
    try:
        compiled = triton.compile(source_of(kernel, case), target=GPUTarget("cuda", arch, 32), options=options)
    except Exception as error:  # what a compiler raises is its own affair; it is reported
        return reason(error, log.text())
    text = compiled.asm["ptx"]
    text = text.decode() if isinstance(text, bytes) else text
    debug = text.find("\t.section\t.debug")
    (folder / f"{case.name}.ptx").write_text(text if debug < 0 else text[:debug])
    metadata = compiled.metadata._asdict()
    kept = {
        key: metadata.get(key)
        for key in (
            "name",
            "shared",
            "num_warps",
            "num_ctas",
            "cluster_dims",
            "global_scratch_size",
            "profile_scratch_size",
        )
    }
    # Warp-specialised kernels start more warps than num_warps says.
    reqntid = re.search(r"\.(?:reqntid|maxntid) (\d+)", text)
    kept["threads"] = int(reqntid.group(1)) if reqntid else 32 * metadata["num_warps"]
    kept["parameters"] = [key for key in kernel.arg_names if key in case.signature]
    (folder / f"{case.name}.json").write_text(json.dumps(kept) + "\n")
    return None


def load_generated(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


def kernel_of(case: corpus_cases.Case, folder: Path) -> Any:
    if case.source:
        # Triton reads a kernel's text from its file.
        path = folder / f"generated_{case.name}.py"
        path.write_text(case.source)
        return getattr(load_generated(path), case.kernel)
    module = __import__(case.module)
    return getattr(module, case.kernel)


class Progress:
    """What is done, in a file: LLVM may abort the process, and the next one goes on behind the piece that did it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.state: dict[str, Any] = {"refused": {}, "done": [], "current": None}
        if path.exists():
            self.state = json.loads(path.read_text())

    def save(self, current: str | None) -> None:
        self.state["current"] = current
        self.path.write_text(json.dumps(self.state, indent=1) + "\n")


def compile_all(todo: list[corpus_cases.Case], arch: int, folder: Path) -> None:
    progress, log = Progress(folder / "refused.json"), Log(folder / "log")
    refused, done, crashed = progress.state["refused"], progress.state["done"], progress.state["current"]
    while todo:
        piece = todo.pop(0)
        if piece.name in done:
            continue
        if piece.name == crashed:
            refused[piece.name] = reason(None, log.before)
        elif piece.name not in refused:
            progress.save(piece.name)
            log.clear()
            why = compile_case(kernel_of(piece, folder), piece, arch, folder, log)
            if why is None:
                done.append(piece.name)
                continue
            refused[piece.name] = why
        # One expression that this version lacks must not hide the others.
        todo = piece.single_expressions() + todo
    progress.save(None)
    log.close()


def main() -> None:
    os.environ.setdefault("TRITON_ALWAYS_COMPILE", "1")
    stop_at_ptx()
    out, archs, wanted = Path(sys.argv[1]), [int(a) for a in sys.argv[2].split(",")], set(sys.argv[3:])
    for arch in archs:
        folder = out / f"sm{arch}"
        folder.mkdir(parents=True, exist_ok=True)
        os.environ["TRITON_CACHE_DIR"] = str(folder / "cache")
        todo = [c for c in corpus.cases() if c.suits(VERSION, arch)]
        if wanted:
            named = [piece for case in todo for piece in [case, *case.single_expressions()]]
            todo = [c for c in named if wanted & {c.name, f"{arch}/{c.name}"}]
        compile_all(todo, arch, folder)


if __name__ == "__main__":
    main()
