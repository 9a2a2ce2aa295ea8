"""The front end: a zygote that imported its Triton and never compiles, and forks a confined child for each request.

Started by trund like a compile worker (docs/formats/frames.md), with the folder of this file holding trun_source.py,
trun_confinement.py and the package trun_worker. The zygote reads no request: the child does, so that the source of one
tenant never lies in a process that a later tenant's is forked from. Its answer is a sealed-off file, sent on as it is.
"""

from __future__ import annotations

import contextlib
import gc
import hashlib
import inspect
import io
import json
import os
import signal
import socket
import struct
import sys
import sysconfig
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any

import trun_confinement
from trun_source import Source
from trun_worker.channel import CHANNEL, MAX_BODY, MAX_HEADER, PROTOCOL, Channel, Log, frame_text
from trun_worker.compilation import plain_value
from trun_worker.diagnostics import first_diagnostic, place
from trun_worker.errors import CompileError
from trun_worker.options import choose_options
from trun_worker.toolchain import Toolchain

MAX_RESULT = 256 << 20
# Names of trun.v1.Dtype → Triton's, where they differ.
TYPES = {
    "f16": "fp16",
    "f32": "fp32",
    "f64": "fp64",
    "f8e4m3": "fp8e4nv",
    "f8e5m2": "fp8e5",
    "f8e4m3b15": "fp8e4b15",
    "f8e4m3fnuz": "fp8e4b8",
    "f8e5m2fnuz": "fp8e5b16",
}
MAX_PRINTED = 16 << 10
REFUSED = "the front end runs a kernel's source without files, network, processes and signals"


class Printed(io.TextIOBase):
    """What a source prints while it is lowered (tl.static_print): its beginning, as lines of the compile's log."""

    def __init__(self) -> None:
        self._text = ""

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        self._text += text[: MAX_PRINTED + 1 - len(self._text)]
        return len(text)

    def log(self) -> str:
        lines = self._text[:MAX_PRINTED].splitlines()
        if len(self._text) > MAX_PRINTED:
            lines.append(f"(more than {MAX_PRINTED} characters)")
        return "\n".join(f"printed: {line}" for line in lines)


class OneTarget:
    """The driver of a machine without a device: what a kernel asks of it is the target that it is lowered for."""

    def __init__(self, target: Any) -> None:
        self._target = target

    def get_current_target(self) -> Any:
        return self._target

    def get_current_device(self) -> int:
        return 0


class Specialisation:
    """The arguments of a launch as this version's ASTSource wants them."""

    def __init__(self, version: tuple[int, int], source: Source, backend: Any) -> None:
        self._version = version
        self._source = source
        self._backend = backend
        self.signature: dict[str, Any] = {}
        self.constants: dict[tuple[int, ...], Any] = {}
        self.divisible: list[tuple[int, ...]] = []

    def add(self, name: str, argument: dict[str, Any]) -> None:
        path = (len(self.signature),)
        self.signature[name] = self._type(name, argument, path)

    def _dtype(self, name: str) -> str:
        if name == "i1" and self._version >= (3, 4):
            return "u1"
        return TYPES.get(name, name)

    def _type(self, name: str, argument: dict[str, Any], path: tuple[int, ...]) -> Any:
        kind = argument["kind"]
        if kind == "constexpr":
            self.constants[path] = self._source.value(argument["value"])
            return "constexpr"
        if kind == "tuple":
            if self._version < (3, 3):
                raise CompileError("INVALID_IR", f"argument {name} is a tuple: Triton takes tuples from 3.3 on")
            types = [self._type(name, item, (*path, i)) for i, item in enumerate(argument["items"])]
            if "fields" in argument:
                return self._source.value({"tuple": types, "fields": argument["fields"], "name": argument["name"]})
            return tuple(types)
        if kind == "descriptor":
            if self._version < (3, 4):
                raise CompileError("INVALID_IR", f"argument {name} is a tensor descriptor: they begin with Triton 3.4")
            block = f"{self._dtype(argument['dtype'])}{list(argument['block_shape'])}"
            layout = argument.get("layout")
            if "input_rank" in argument:
                return self._im2col_type(name, block, argument["input_rank"], layout)
            return f"tensordesc<{block}{'' if layout is None else f',{self._source.value(layout)!r}'}>"
        if argument.get("divisible"):
            self.divisible.append(path)
        if kind == "pointer":
            return ("*k" if argument.get("const") else "*") + self._dtype(argument["dtype"])
        return self._dtype(argument["dtype"])

    def _im2col_type(self, name: str, block: str, rank: Any, layout: Any) -> str:
        what = f"argument {name} is an im2col tensor descriptor"
        if self._version < (3, 8):
            raise CompileError("INVALID_IR", f"{what}: Gluon kernels take them from Triton 3.8 on")
        if layout is None:
            raise CompileError("INVALID_IR", f"{what} without a layout: Gluon kernels take them with one")
        return f"tensordesc_im2col<{block},input_rank={int(rank)},{self._source.value(layout)!r}>"

    def make_source(self, function: Any, is_gluon: bool) -> Any:
        from triton.compiler import compiler

        if is_gluon:
            from triton.experimental.gluon import _runtime

            attributes = {path: self._backend.parse_attr("D") for path in self.divisible}
            return _runtime.GluonASTSource(function, self.signature, self.constants, attributes)
        if self._version >= (3, 3):
            attributes = {path: self._backend.parse_attr("D") for path in self.divisible}
            return compiler.ASTSource(function, self.signature, self.constants, attributes)
        names = list(self.signature)
        constants = {names[path[0]]: value for path, value in self.constants.items()}
        signature = {name: kind for name, kind in self.signature.items() if kind != "constexpr"}
        ones = [names.index(n) for n, v in constants.items() if type(v) is int and v == 1 and not self._declared(n)]
        self._constexprs = ones
        indices = [path[0] for path in self.divisible]
        if self._version >= (3, 2):
            # Its signature lists the specialised ones too.
            from triton.backends.compiler import AttrsDescriptor

            attributes = AttrsDescriptor.from_hints({i: 16 for i in indices})
            return compiler.ASTSource(function, signature, constants, attributes)
        attributes = compiler.AttrsDescriptor(tuple(indices), tuple(ones))
        return compiler.ASTSource(function, signature, constants, attributes)

    def _declared(self, name: str) -> bool:
        return name in self.declared

    declared: frozenset[str] = frozenset()


def call_with_known(function: Any, **values: Any) -> Any:
    """Versions differ in what these functions take, never in what it is called."""
    return function(**{name: values[name] for name in inspect.signature(function).parameters})


def lower(toolchain: Toolchain, request: dict[str, Any], bundle: bytes, log: Log) -> tuple[dict[str, Any], bytes]:
    started = time.perf_counter_ns()
    is_gluon = request["from"] == "gluon"
    wanted = "ttgir" if is_gluon else "ttir"
    backend = toolchain.backend(request["target"])
    options = choose_options(toolchain, backend, request["options"], {})
    try:
        parsed = json.loads(bundle)
        if not isinstance(parsed, dict):
            raise TypeError("it is no JSON object")
    except (ValueError, TypeError, RecursionError) as error:
        raise CompileError(
            "INVALID_IR", f"not a source bundle ({error}): Python source is sent by @trun.jit of the Python client"
        ) from error
    source = Source(parsed)
    printed = Printed()
    try:
        with contextlib.redirect_stdout(printed):
            module, metadata = build(toolchain, source, parsed, backend, options, request, wanted, is_gluon)
    except (CompileError, MemoryError):
        raise
    except Exception as error:
        explained = explain(error, source, parsed, log)
        if said := printed.log():
            explained.args = (f"{explained}\n{said}",)
        raise explained from error
    text = json.dumps(metadata, sort_keys=True, separators=(",", ":"), default=plain_value)
    spent = time.perf_counter_ns() - started
    answer = {"op": "stage", "level": wanted, "ns": spent, "metadata": text, "log": printed.log()}
    return answer, str(module).encode()


def build(
    toolchain: Toolchain,
    source: Source,
    bundle: dict[str, Any],
    backend: Any,
    options: Any,
    request: dict[str, Any],
    wanted: str,
    is_gluon: bool,
) -> tuple[Any, dict[str, Any]]:
    major, minor = (int(n) for n in toolchain.version.split(".")[:2])
    if is_gluon and (major, minor) < (3, 4):
        raise CompileError("UNSUPPORTED_LEVEL", f"Triton {toolchain.version} has no Gluon: it begins with 3.4")
    from triton.runtime.driver import driver

    driver.set_active(OneTarget(backend.target))
    function = source.entry()
    if is_gluon != bool(getattr(function, "is_gluon", lambda: False)()):
        other = "a Gluon kernel" if not is_gluon else "no Gluon kernel"
        raise CompileError(
            "INVALID_IR", f"{function.__name__} is {other}: its level is {'python' if is_gluon else 'gluon'}"
        )
    arguments = bundle["arguments"]
    unknown = [name for name in arguments if name not in function.arg_names]
    missing = [name for name in function.arg_names if name not in arguments]
    if unknown or missing:
        raise CompileError(
            "INVALID_IR",
            f"the bundle's arguments are not those of {function.__name__}({', '.join(function.arg_names)}): "
            + "; ".join(
                f"{what} {', '.join(names)}" for what, names in (("lacks", missing), ("has", unknown)) if names
            ),
        )
    specialisation = Specialisation((major, minor), source, backend)
    specialisation.declared = frozenset(p.name for p in function.params if p.is_constexpr)
    for name in function.arg_names:
        specialisation.add(name, arguments[name])
    made = specialisation.make_source(function, is_gluon)
    context = toolchain._ir.context()
    toolchain._ir.load_dialects(context)
    backend.load_dialects(context)
    parts = {
        "target": backend.target,
        "options": options,
        "codegen_fns": call_with_known(backend.get_codegen_implementation, options=options),
        "module_map": backend.get_module_map() if hasattr(backend, "get_module_map") else None,
        "context": context,
    }
    module = call_with_known(made.make_ir, **parts)
    digest = hashlib.sha256(json.dumps([toolchain.version, bundle], sort_keys=True).encode()).hexdigest()
    metadata: dict[str, Any] = {
        **options.__dict__,
        "hash": digest,
        "target": dict(request["target"]),
        "triton_version": toolchain.version,
    }
    stages: dict[str, Any] = {}
    if len(inspect.signature(backend.add_stages).parameters) >= 3:
        language = toolchain._language.GLUON if is_gluon else toolchain._language.TRITON
        backend.add_stages(stages, options, language)
    else:
        backend.add_stages(stages, options)
    for name, stage in stages.items():
        module = stage(module, metadata)
        if name == wanted:
            break
    return module, metadata


def raised_at(error: BaseException, bundle: dict[str, Any]) -> tuple[str, int | None, int | None, str]:
    """File, line, column and text of the place in the user's files where Python itself raised this."""
    files = {item["file"] for item in bundle.get("code", [])}
    if "text" in bundle:
        files.add(bundle["text"]["file"])
    if not isinstance(error, SyntaxError):
        found = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename in files]
        return (found[-1].filename, found[-1].lineno, None, "") if found else ("", None, None, "")
    if error.filename not in files:
        return "", None, None, ""
    row = (error.text or "").rstrip("\n")
    # A SyntaxError counts characters; a column is one of bytes, as an AST's and MLIR's are.
    column = len(row[: max(error.offset, 1) - 1].encode("utf-8", "replace")) + 1 if error.offset is not None else None
    return error.filename, error.lineno, column, row


def caret(row: str, offset: int) -> str:
    """A line that points at the character that begins ``offset`` bytes into the row."""
    return " " * len(row.encode("utf-8", "replace")[:offset].decode("utf-8", "replace")) + "^"


def explain(error: BaseException, source: Source, bundle: dict[str, Any], log: Log) -> CompileError:
    """Triton's message at the user's file and line."""
    chain: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and current not in chain and len(chain) < 64:
        chain.append(current)
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)
    refusal = next((e for e in chain if isinstance(e, PermissionError)), None)
    # The innermost place is where it happened, the outer ones are the calls that led there.
    places = []
    nodes: list[Any] = []
    for each in chain:
        node, text = getattr(each, "node", None), getattr(each, "src", None)
        # Some messages give a caller's node with the callee's text: the first that has the node has its text.
        if node is not None and text in source.places and hasattr(node, "lineno") and node not in nodes:
            nodes.append(node)
            file, line, indent = source.places[text]
            places.append((file, line + node.lineno - 1, node.col_offset + indent + 1, text, node))
    innermost = chain[-1]
    message = next((str(m) for e in reversed(chain) if (m := getattr(e, "error_message", None))), None)
    if message is None or not hasattr(innermost, "error_message"):
        message = f"{type(innermost).__name__}: {innermost}" if str(innermost) else type(innermost).__name__
    if places:
        file, line, column, text, node = places[-1]
        row = (text.splitlines() + [""] * node.lineno)[node.lineno - 1]
        shown = [f"{place(file, line, column)}: {message}", row, caret(row, node.col_offset)]
        shown += [f"called from {place(f, n, c)}" for f, n, c, _, _ in reversed(places[:-1])]
    else:
        file, line, column, row = raised_at(innermost, bundle)
        shown = [f"{place(file, line, column)}: {message}" if file else message]
        if column is not None:
            shown += [row, caret(row, column - 1)]
    diagnostic, _, _, where = first_diagnostic(log.text(), "")
    if diagnostic:
        shown.append(f"{where}: {diagnostic}" if where else diagnostic)
    if refusal is not None:
        shown.append(REFUSED)
        return CompileError("NOT_PERMITTED", "\n".join(shown), file=file, line=line, column=column)
    return CompileError("INVALID_IR", "\n".join(shown), file=file, line=line, column=column)


class Zygote:
    """Forks. Keeps one thread, and nothing of any request."""

    def __init__(
        self, channel: Channel, toolchain: Toolchain, layers: tuple[str, ...], memory: int, is_open: bool
    ) -> None:
        self._channel = channel
        self._socket: socket.socket = channel._socket
        self._toolchain = toolchain
        self._layers = layers
        self._memory = memory
        self._may_be_unconfined = is_open
        libraries = {sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib"), str(toolchain.root)}
        self._readable = sorted(path for path in libraries if path and os.path.isdir(path))

    def serve(self) -> None:
        while self._socket.recv(1, socket.MSG_PEEK):
            log = Log()
            with open("/proc/self/status") as file:
                threads = next(line for line in file if line.startswith("Threads:")).split()[1]
            if threads != "1":
                raise SystemExit(f"the front end has {threads} threads: it cannot fork")
            result = os.memfd_create("trun-frontend-result")
            child = os.fork()
            if child == 0:
                self._run_child(result, log)
            _, status = os.waitpid(child, 0)
            try:
                self._answer(result, status, log)
            finally:
                os.close(result)

    # Raises EOFError when this zygote is to end.
    def _answer(self, result: int, status: int, log: Log) -> None:
        size = os.fstat(result).st_size
        if os.waitstatus_to_exitcode(status) == 0 and size >= 8:
            header, body = struct.unpack("<II", os.pread(result, 8, 0))
            if header <= MAX_HEADER and body <= MAX_BODY and 8 + header + body == size:
                sent = 0
                while sent < size:
                    sent += os.sendfile(self._socket.fileno(), result, sent, size - sent)
                return
        code = os.waitstatus_to_exitcode(status)
        text = log.text()[-3000:]
        if code == -signal.SIGKILL:
            kind, message = "WORKER_LOST", "the front end was killed in the middle of this request: send it again"
        elif "bad_alloc" in text or "MemoryError" in text or "out of memory" in text:
            kind, message = "COMPILE_OUT_OF_MEMORY", f"the front end ran out of its {self._memory >> 20} MiB"
        else:
            how = f"signal {-code}" if code < 0 else f"exit code {code}"
            kind, message = "COMPILE_FAILED", f"the front end ended ({how}) without an answer\n{text}".rstrip()
        # The child may have died before it had read all of its request: what is left on the channel is no frame.
        self._channel.send({"op": "error", "kind": kind, "message": message, "details": {}, "ends": True})
        raise EOFError

    def _run_child(self, result: int, log: Log) -> None:
        """Never returns."""
        code = 1
        try:
            header, body = self._handle(log)
            text = frame_text(header)
            whole = struct.pack("<II", len(text), len(body)) + text + body
            view = memoryview(whole)
            while view:
                view = view[os.write(result, view) :]
            code = 0
        except BaseException:
            traceback.print_exc()
            sys.stderr.flush()
        finally:
            os._exit(code)

    def _handle(self, log: Log) -> tuple[dict[str, Any], bytes]:
        request, bundle = self._channel.receive()
        # A descriptor of the daemon's would let the tenant's code speak for the zygote.
        self._socket.close()
        try:
            if request.get("op") == "warm":
                return {"op": "done"}, b""
            if request.get("op") != "lower":
                raise CompileError("PROTOCOL", f"no such operation: {request.get('op')}")
            try:
                trun_confinement.limit(self._memory, MAX_RESULT)
                trun_confinement.confine(self._readable, self._layers)
            except trun_confinement.Unconfinable as error:
                if not self._may_be_unconfined:
                    raise CompileError(
                        "UNCONFINED",
                        f"Python source is not lowered, since nothing here would confine it ({error}): send TTIR, or "
                        "let the daemon's operator allow it with --allow-unconfined-frontend",
                    ) from error
            return lower(self._toolchain, request, bundle, log)
        except CompileError as error:
            return {"op": "error", "kind": error.kind, "message": str(error), "details": error.details}, b""
        except MemoryError:
            gc.collect()
            message = f"the source needs more than the {self._memory >> 20} MiB that the front end gives it"
            return {"op": "error", "kind": "COMPILE_OUT_OF_MEMORY", "message": message, "details": {}}, b""


def preload() -> None:
    """What lowering imports late, so that the children share it."""
    import importlib

    for name in (
        "triton.compiler.code_generator",
        "triton.language.extra.cuda",
        "triton.language.extra.libdevice",
        "triton.experimental.gluon",
        "triton.experimental.gluon.language",
        "triton.experimental.gluon.language.nvidia.hopper",
        "triton.experimental.gluon.language.nvidia.blackwell",
    ):
        try:
            importlib.import_module(name)
        except ImportError:
            continue  # not in this version


def main() -> int:
    values = dict(argument.removeprefix("--").split("=", 1) for argument in sys.argv[1:])
    here = str(Path(__file__).resolve().parent)
    sys.path[:] = [entry for entry in sys.path if entry != here]
    channel = Channel(CHANNEL)
    try:
        toolchain = Toolchain()
        preload()
    except Exception as error:
        message = f"import triton: {type(error).__name__}: {error}"
        channel.send({"op": "error", "kind": "TOOLCHAIN_BROKEN", "message": message, "details": {}})
        return 1
    # A kernel's source finds the standard library and this Triton, never what else the environment holds.
    sys.path[:] = [entry for entry in sys.path if not entry.endswith(("site-packages", "dist-packages"))]
    layers = tuple(layer for layer in values.get("layers", ",".join(trun_confinement.LAYERS)).split(",") if layer)
    zygote = Zygote(channel, toolchain, layers, int(values["memory"]), values.get("unconfined") == "allowed")
    tempfile.tempdir = None
    gc.collect()
    gc.freeze()
    python = ".".join(str(n) for n in sys.version_info[:3])
    channel.send({"op": "hello", "protocol": PROTOCOL, "triton": toolchain.version, "python": python})
    try:
        zygote.serve()
    except (EOFError, BrokenPipeError, ConnectionResetError):
        pass
    return 0


if __name__ == "__main__":
    sys.exit(main())
