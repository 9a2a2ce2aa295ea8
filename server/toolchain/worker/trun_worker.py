"""A compile worker: exactly one Triton, driven by trund over frames on descriptor 3 (docs/formats/frames.md).

Started by trund as `python -s -B -X utf8 trun_worker.py` with an emptied environment; TMPDIR is a folder of its
own, and descriptor 2 is a file that trund also holds: what MLIR and LLVM print there is read back for messages.
Imports the standard library and Triton only, and works with every Triton from 3.0 to 3.9.
"""

from __future__ import annotations

import dataclasses
import gc
import hashlib
import inspect
import json
import os
import re
import shutil
import socket
import struct
import sys
import tempfile
import time
import typing
from pathlib import Path
from typing import Any

PROTOCOL = 1
CHANNEL = 3
MAX_HEADER = 4 << 20
MAX_BODY = 256 << 20
LOG_BYTES = 1 << 20

MODULE_LEVELS = ("ttir", "ttgir")
TEXT_LEVELS = ("llir", "ptx", "amdgcn")
# Options that the request says elsewhere, or that would name files of this machine.
FIXED_OPTIONS = {
    "arch": "the target says it",
    "backend_name": "the target says it",
    "ir_override": "send that file as the kernel instead",
}
# Options that are taken from a metadata file where the request does not say them: what the file was made with.
INHERITED_OPTIONS = (
    "num_warps",
    "num_ctas",
    "num_stages",
    "maxnreg",
    "cluster_dims",
    "enable_fp_fusion",
    "enable_reflect_ftz",
    "sched4reg",
    "launch_cooperative_grid",
    "launch_pdl",
    "sanitize_overflow",
    "debug",
)
# What of the options is still true of a kernel that comes in below TTGIR; the rest was decided above.
LATE_OPTIONS = ("ptx_version", "ptx_options", "enable_fp_fusion", "arch", "backend_name", "warp_size")

WARM_TTIR = b"""
module {
  tt.func public @warm(%p: !tt.ptr<f32> {tt.divisibility = 16 : i32}, %n: i32) {
    %r = tt.make_range {end = 256 : i32, start = 0 : i32} : tensor<256xi32>
    %m = tt.splat %n : i32 -> tensor<256xi32>
    %c = arith.cmpi slt, %r, %m : tensor<256xi32>
    %s = tt.splat %p : !tt.ptr<f32> -> tensor<256x!tt.ptr<f32>>
    %a = tt.addptr %s, %r : tensor<256x!tt.ptr<f32>>, tensor<256xi32>
    %v = tt.load %a, %c : tensor<256x!tt.ptr<f32>>
    %w = arith.addf %v, %v : tensor<256xf32>
    tt.store %a, %w, %c : tensor<256x!tt.ptr<f32>>
    tt.return
  }
}
"""


class CompileError(Exception):
    """Something to tell the client: `kind` is a name of trun.v1.ErrorReason."""

    def __init__(self, kind: str, message: str, **details: Any) -> None:
        super().__init__(message)
        self.kind = kind
        self.details = {key: str(value) for key, value in details.items() if value is not None}


class Channel:
    """Frames: header length and body length (u32, little endian), the header (JSON), the body."""

    def __init__(self, descriptor: int) -> None:
        os.set_inheritable(descriptor, False)  # ptxas must not hold it open
        self._socket = socket.socket(fileno=descriptor)

    def send(self, header: dict[str, Any], body: bytes = b"") -> None:
        text = json.dumps(header, separators=(",", ":")).encode("utf-8", "replace")
        self._socket.sendall(struct.pack("<II", len(text), len(body)) + text)
        if body:
            self._socket.sendall(body)

    def receive(self) -> tuple[dict[str, Any], bytes]:
        """Raises EOFError when the parent has gone."""
        header_bytes, body_bytes = struct.unpack("<II", self._exactly(8))
        if header_bytes > MAX_HEADER or body_bytes > MAX_BODY:
            raise EOFError("not a frame")
        header = json.loads(self._exactly(header_bytes))
        return header, self._exactly(body_bytes)

    def _exactly(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            part = self._socket.recv(min(size - len(data), 1 << 20))
            if not part:
                raise EOFError("the parent has gone")
            data += part
        return bytes(data)


class Log:
    """What was written to descriptor 2 during this request."""

    def __init__(self) -> None:
        try:
            os.ftruncate(2, 0)
            os.lseek(2, 0, os.SEEK_SET)
            self._is_file = True
        except OSError:
            self._is_file = False

    def text(self) -> str:
        if not self._is_file:
            return ""
        sys.stderr.flush()
        return os.pread(2, LOG_BYTES, 0).decode("utf-8", "replace")


class Toolchain:
    """Triton, and what differs between its versions."""

    def __init__(self) -> None:
        import triton
        from triton._C.libtriton import ir, llvm
        from triton.backends import backends
        from triton.backends import compiler as backend_compiler

        self.version: str = triton.__version__
        self.root = Path(triton.__file__).resolve().parent
        self._ir = ir
        self._llvm = llvm
        self._backends = backends
        self._GPUTarget = backend_compiler.GPUTarget
        self._language = getattr(backend_compiler, "Language", None)
        self._ready = False

    def backend(self, target: dict[str, Any]) -> Any:
        gpu = self._GPUTarget(target["backend"], target["arch"], target["warp_size"])
        found = [b.compiler for b in self._backends.values() if b.compiler.supports_target(gpu)]
        if len(found) != 1:
            raise CompileError("UNSUPPORTED_TARGET", f"Triton {self.version} has no backend '{target['backend']}'")
        try:
            return found[0](gpu)
        except Exception as error:
            raise CompileError("UNSUPPORTED_TARGET", f"Triton {self.version} refuses {gpu}: {error}") from error

    def options(self, backend: Any) -> dict[str, dataclasses.Field[Any]]:
        fields = dataclasses.fields(type(backend.parse_options({})))
        return {field.name: field for field in fields if field.name not in FIXED_OPTIONS}

    def describe(self, backend: Any) -> list[dict[str, str]]:
        """Name, type and default (as it takes effect; Triton's own code overrides some of the declared ones)."""
        effective = backend.parse_options({})
        rows = []
        for name, field in self.options(backend).items():
            default = getattr(effective, name)
            if not (default is None or isinstance(default, (bool, int, str))):
                default = None if field.default is dataclasses.MISSING else field.default
            text = json.dumps(default, sort_keys=True, separators=(",", ":"), default=str)
            rows.append({"name": name, "type": type_name(field), "default": text})
        return rows

    def stages(self, backend: Any, options: Any) -> dict[str, Any]:
        stages: dict[str, Any] = {}
        if len(inspect.signature(backend.add_stages).parameters) >= 3:
            backend.add_stages(stages, options, self._language.TRITON)
        else:
            backend.add_stages(stages, options)
        return stages

    def prepare(self) -> None:
        """Global state of LLVM that make_llir sets: a compile that starts below it must find the same."""
        if self._ready:
            return
        self._llvm.init_targets()
        from triton._C.libtriton import nvidia

        if hasattr(nvidia, "set_short_ptr"):
            nvidia.set_short_ptr()
        self._ready = True

    def parse(self, path: Path, backend: Any) -> Any:
        context = self._ir.context()
        self._ir.load_dialects(context)
        backend.load_dialects(context)
        module = self._ir.parse_mlir_module(str(path), context)
        module.context = context
        return module


def type_name(field: dataclasses.Field[Any]) -> str:
    """ "int", "bool", "str", "tuple", "dict": of the annotation, else of the default."""
    annotation = field.type
    if isinstance(annotation, str):
        annotation = re.sub(r"^(typing\.)?Optional\[(.*)\]$", r"\2", annotation)
        return re.sub(r"\[.*", "", annotation).split("|")[0].strip().split(".")[-1].lower()
    arguments = [a for a in typing.get_args(annotation) if a is not type(None)]
    origin = typing.get_origin(annotation)
    if origin is typing.Union and arguments:
        annotation, origin = arguments[0], typing.get_origin(arguments[0])
    return getattr(origin or annotation, "__name__", str(annotation)).lower()


def check_option(field: dataclasses.Field[Any], value: Any, root: Path) -> Any:
    """The value as Triton wants it."""
    name, wanted = field.name, type_name(field)
    accepted: dict[str, tuple[type, ...]] = {
        "int": (int,),
        "bool": (bool, int),
        "str": (str,),
        "tuple": (list,),
        "list": (list,),
        "dict": (dict,),
        "float": (int, float),
    }
    types = accepted.get(wanted)
    if types is not None and (not isinstance(value, types) or (isinstance(value, bool) and bool not in types)):
        raise CompileError(
            "UNKNOWN_OPTION", f"option {name} takes {wanted} values, not {json.dumps(value)}", option=name
        )
    if name == "ptx_options" and "/" in value:
        # ptxas would read or write any file of the daemon's user.
        raise CompileError("UNKNOWN_OPTION", "option ptx_options must not name files", option=name)
    if name == "extern_libs":
        for path in value.values():
            inside = isinstance(path, str) and Path(path).resolve().is_relative_to(root)
            if not inside:
                raise CompileError(
                    "UNKNOWN_OPTION",
                    "option extern_libs may only name libraries of the toolchain itself",
                    option=name,
                )
    return tuple(tuple(v) if isinstance(v, list) else v for v in value) if isinstance(value, list) else value


def choose_options(toolchain: Toolchain, backend: Any, asked: dict[str, Any], given: dict[str, Any]) -> Any:
    known = toolchain.options(backend)
    for name in asked:
        if name in FIXED_OPTIONS:
            raise CompileError("UNKNOWN_OPTION", f"option {name} cannot be set: {FIXED_OPTIONS[name]}", option=name)
        if name not in known:
            raise CompileError(
                "UNKNOWN_OPTION",
                f"Triton {toolchain.version} has no option '{name}'; it has: {', '.join(sorted(known))}",
                option=name,
            )
    values = {name: given[name] for name in INHERITED_OPTIONS if name in known and given.get(name) is not None}
    values.update({name: value for name, value in asked.items() if value is not None})
    values = {name: check_option(known[name], value, toolchain.root) for name, value in values.items()}
    try:
        return backend.parse_options(values)
    except Exception as error:
        text = str(error) or type(error).__name__
        raise CompileError("UNKNOWN_OPTION", f"Triton {toolchain.version} refuses the options: {text}") from error


def first_diagnostic(log: str, own_file: str) -> tuple[str, int | None, int | None, str | None]:
    """(text, line, column, source location) of the first error in a log of MLIR; the line is one of the IR file."""
    for line in log.splitlines():
        before, mark, text = line.partition("error: ")
        if not mark:
            continue
        places = re.findall(r'"([^"]*)":(\d+):(\d+)', before) or re.findall(r"^([^:]*):(\d+):(\d+):", before)
        for file, row, column in places:
            if file == own_file:
                return text, int(row), int(column), None
        if places:
            file, row, column = places[0]
            return text, None, None, f"{file}:{row}:{column}"
        return text, None, None, None
    return "", None, None, None


def place(file: str, line: int | None, column: int | None) -> str:
    return ":".join([file] + [str(n) for n in (line, column) if n is not None])


def ptxas_error(message: str, file: str, is_input: bool) -> CompileError:
    """From the text of Triton's exception, which holds ptxas' log and a command line with temporary names."""
    log = message.split("stderr:\n", 1)[-1].split("Repro command:", 1)[0].strip()
    if re.search(r"is not defined for option 'gpu-name'|is higher than default SM version|cannot target", log):
        return CompileError("UNSUPPORTED_TARGET", f"ptxas: {log}")
    found = re.search(r"ptxas [^,\n]*, line (\d+); (?:error|fatal)\s*:\s*(.*)", log)
    log = re.sub(r"ptxas [^,\n]*, line (\d+);", rf"{file}:\1:" if is_input else r"ptx:\1:", log)
    line = int(found.group(1)) if found else None
    if is_input:
        return CompileError(
            "INVALID_IR",
            f"{place(file, line, None)}: {found.group(2) if found else 'refused'}\n{log}",
            line=line,
        )
    return CompileError("COMPILE_FAILED", f"ptxas failed:\n{log}")


def threads_of(ptx: str) -> int | None:
    found = re.search(r"\.(?:reqntid|maxntid)\s+(\d+)", ptx)
    return int(found.group(1)) if found else None


class Compile:
    """One request."""

    def __init__(self, toolchain: Toolchain, request: dict[str, Any], source: bytes, folder: Path, log: Log) -> None:
        self.toolchain = toolchain
        self.level: str = request["from"]
        self.to: str = request["to"]
        self.target: dict[str, Any] = request["target"]
        self.asked: dict[str, Any] = request["options"]
        self.given: dict[str, Any] = request.get("metadata") or {}
        self.file: str = request.get("file") or f"kernel.{self.level}"
        self.source = source
        self.folder = folder
        self.log = log

    def run(self, channel: Channel | None) -> None:
        """Sends a frame after each stage, and asks whether to go on; without a channel, just goes on."""
        started = time.perf_counter_ns()
        backend = self.toolchain.backend(self.target)
        self.toolchain.prepare()
        names = list(self.toolchain.stages(backend, backend.parse_options({})))
        if self.level not in names or self.to not in names or names.index(self.level) >= names.index(self.to):
            raise CompileError(
                "UNSUPPORTED_LEVEL",
                f"there is no way from '{self.level}' to '{self.to}'; the levels are {names}",
            )
        module = self._load(backend)
        options = self._options(backend, module)
        metadata = self._metadata(backend, options)
        stages = self.toolchain.stages(backend, options)
        if self.level == "ttir":
            # It may come straight from the front end, or have been made for another target.
            module = self._stage("ttir", stages["ttir"], module, metadata)
        elif self.level == "ttgir" and hasattr(module, "get_tensordesc_metadata"):
            metadata["tensordesc_meta"] = module.get_tensordesc_metadata()

        for name in names[names.index(self.level) + 1 : names.index(self.to) + 1]:
            module = self._stage(name, stages[name], module, metadata)
            content = module if isinstance(module, bytes) else str(module).encode()
            if name == "ptx":
                self._complete_from_ptx(module, metadata)
            spent = time.perf_counter_ns() - started
            if channel is None:
                continue
            text = json.dumps(metadata, sort_keys=True, separators=(",", ":"), default=_plain)
            channel.send({"op": "stage", "level": name, "ns": spent, "metadata": text}, content)
            reply, _ = channel.receive()
            if reply.get("op") != "continue":
                break
            started = time.perf_counter_ns()

    def _load(self, backend: Any) -> Any:
        if self.level in MODULE_LEVELS:
            path = self.folder / f"kernel.{self.level}"
            path.write_bytes(self.source)
            try:
                return self.toolchain.parse(path, backend)
            except RuntimeError as error:
                text, line, column, _ = first_diagnostic(self.log.text(), str(path))
                raise CompileError(
                    "INVALID_IR",
                    f"{place(self.file, line, column)}: {text or error}",
                    line=line,
                    column=column,
                ) from error
        if self.level not in TEXT_LEVELS:
            raise CompileError("UNSUPPORTED_LEVEL", f"a compile cannot start at '{self.level}'")
        try:
            text = self.source.decode("utf-8")
        except UnicodeDecodeError as error:
            line = self.source.count(b"\n", 0, error.start) + 1
            column = error.start - (self.source.rfind(b"\n", 0, error.start) + 1) + 1
            raise CompileError(
                "INVALID_IR", f"{place(self.file, line, column)}: not UTF-8 text", line=line, column=column
            ) from error
        if self.level == "ptx" and not re.search(r"\.visible\s+\.entry\s+\w+", text):
            raise CompileError("INVALID_IR", f"{self.file}: no '.visible .entry' in it", line=1)
        return text

    def _options(self, backend: Any, module: Any) -> Any:
        given = dict(self.given)
        if self.level == "ttgir":
            specialised = b"warp_specialize" in self.source or b"num-warp-groups-per-cta" in self.source
            for key, attribute in (("num_warps", "num-warps"), ("num_ctas", "num-ctas")):
                values = [module.get_int_attr(f"{dialect}.{attribute}") for dialect in ("ttg", "triton_gpu")]
                value = next((v for v in values if v is not None), None)
                if value is None:
                    if key == "num_warps":
                        raise CompileError("INVALID_IR", f"{self.file}: the module has no ttg.num-warps", line=1)
                    continue
                for origin, other in (
                    ("the options say", self.asked.get(key)),
                    ("the metadata says", given.get(key)),
                ):
                    if other is not None and other != value and not (specialised and origin == "the metadata says"):
                        raise CompileError(
                            "METADATA",
                            f"{origin} {key} = {other}, but {self.file} was made for {value}",
                            key=key,
                        )
                given[key] = value
        return choose_options(self.toolchain, backend, self.asked, given)

    def _metadata(self, backend: Any, options: Any) -> dict[str, Any]:
        """As triton.compile begins it; below TTGIR only what is known, that is what was given."""
        names = dict(options.__dict__)
        if self.level not in MODULE_LEVELS:
            names = {k: v for k, v in names.items() if k in LATE_OPTIONS or k in self.asked}
            names = {**names, **{k: v for k, v in self.given.items() if k not in self.asked}}
        digest = hashlib.sha256()
        for part in (self.toolchain.version, self.level, backend.hash(), options.hash()):
            digest.update(str(part).encode() + b"\0")
        digest.update(self.source)
        metadata = {
            **names,
            "hash": digest.hexdigest(),
            "target": dict(self.target),
            "triton_version": self.toolchain.version,
        }
        if self.level in MODULE_LEVELS:
            entries = re.findall(rb"tt\.func public @([\w$.]+)\(", self.source)
            if len(entries) == 1:
                metadata["name"] = entries[0].decode()
        elif self.level == "ptx":
            self._complete_from_ptx(self.source.decode("utf-8"), metadata)
        return metadata

    def _complete_from_ptx(self, ptx: str, metadata: dict[str, Any]) -> None:
        if self.level in MODULE_LEVELS:
            return  # Triton said it all
        entries = re.findall(r"\.visible\s+\.entry\s+([\w$]+)", ptx)
        if "name" in self.given and self.given["name"] not in entries:
            raise CompileError(
                "METADATA", f"the metadata names {self.given['name']}, the file has {entries}", key="name"
            )
        if len(entries) == 1:
            metadata["name"] = entries[0]
        threads = threads_of(ptx)
        warp = int(self.target["warp_size"])
        if threads is None:
            return
        known = metadata.get("num_warps")
        if known is not None and known * warp != threads:
            raise CompileError(
                "METADATA", f"num_warps = {known} contradicts the {threads} threads of {self.file}", key="num_warps"
            )
        metadata["num_warps"] = threads // warp

    def _stage(self, name: str, function: Any, module: Any, metadata: dict[str, Any]) -> Any:
        try:
            return function(module, metadata)
        except MemoryError:
            raise
        except Exception as error:
            message = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
            if name == "cubin" and "ptxas" in message:
                raise ptxas_error(str(error), self.file, self.level == "ptx") from error
            log = self.log.text()
            own = str(self.folder / f"kernel.{self.level}")
            text, line, column, source = first_diagnostic(log, own)
            where = place(self.file, line, column) if line is not None else source
            summary = f"{where}: {text}" if where and text else text or message
            tail = log.replace(own, self.file)[-3000:]
            raise CompileError(
                "COMPILE_FAILED",
                f"stage {name}: {summary}\n{message}\n{tail}".rstrip(),
                line=line,
                column=column,
                source=source,
                stage=name,
            ) from error


def _plain(value: Any) -> Any:
    return vars(value) if hasattr(value, "__dict__") else str(value)


def serve(channel: Channel, toolchain: Toolchain, base: Path) -> None:
    folder = base / "request"
    count = 0
    while True:
        request, body = channel.receive()
        op = request.get("op")
        log = Log()
        folder.mkdir(exist_ok=True)
        tempfile.tempdir = str(folder)
        failed = False
        try:
            if op == "compile":
                Compile(toolchain, request, body, folder, log).run(channel)
                channel.send({"op": "done"})
            elif op == "warm":
                target = {"backend": "cuda", "arch": 80, "warp_size": 32}
                warm = {"from": "ttir", "to": "cubin", "target": target, "options": {}, "file": "warm.ttir"}
                Compile(toolchain, warm, WARM_TTIR, folder, log).run(None)
                channel.send({"op": "done"})
            elif op == "options":
                target = {
                    "backend": request["backend"],
                    "arch": 80 if request["backend"] == "cuda" else "gfx942",
                    "warp_size": 32 if request["backend"] == "cuda" else 64,
                }
                rows = toolchain.describe(toolchain.backend(target))
                channel.send({"op": "options", "options": rows})
            else:
                raise CompileError("PROTOCOL", f"no such operation: {op}")
        except CompileError as error:
            failed = True
            channel.send({"op": "error", "kind": error.kind, "message": str(error), "details": error.details})
        except MemoryError:
            failed = True
            channel.send({"op": "error", "kind": "COMPILE_OUT_OF_MEMORY", "message": "no memory left", "details": {}})
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        count += 1
        if failed or count % 16 == 0:
            gc.collect()


def main() -> int:
    # Nothing beside this file may shadow a module of the standard library or of Triton.
    sys.path[:] = [entry for entry in sys.path if entry != str(Path(__file__).resolve().parent)]
    channel = Channel(CHANNEL)
    base = Path(tempfile.gettempdir())
    try:
        toolchain = Toolchain()
    except Exception as error:
        message = f"import triton: {type(error).__name__}: {error}"
        channel.send({"op": "error", "kind": "TOOLCHAIN_BROKEN", "message": message, "details": {}})
        return 1
    gc.collect()
    gc.freeze()
    python = ".".join(str(n) for n in sys.version_info[:3])
    channel.send({"op": "hello", "protocol": PROTOCOL, "triton": toolchain.version, "python": python})
    try:
        serve(channel, toolchain, base)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        pass
    return 0


if __name__ == "__main__":
    sys.exit(main())
