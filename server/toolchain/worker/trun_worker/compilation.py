"""One request to compile: from a level to a later one."""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from pathlib import Path
from typing import Any

from trun_worker.channel import Channel, Log
from trun_worker.diagnostics import first_diagnostic, place
from trun_worker.errors import CompileError
from trun_worker.options import FIXED_OPTIONS, choose_options
from trun_worker.passes import PassTap, find_pass, list_passes
from trun_worker.ptxas import PtxasLog, ptxas_error, threads_of
from trun_worker.toolchain import Toolchain

MODULE_LEVELS = ("ttir", "ttgir")
TEXT_LEVELS = ("llir", "ptx", "amdgcn")
# What of the options is still true of a kernel that comes in below TTGIR; the rest was decided above.
LATE_OPTIONS = ("ptx_version", "ptx_options", "enable_fp_fusion", "arch", "backend_name", "warp_size")


class Compilation:
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
        self.shows_passes = bool(request.get("passes"))
        self.resume_after: str = request.get("resume_after") or ""
        self._resume_stage = ""
        self._tap: PassTap | None = None
        self._passes = 0
        self._module: Any = None  # lives as long as this: freed after the answer

    def run(self, channel: Channel | None) -> None:
        """Sends a frame after each stage, and asks whether to go on; without a channel, just goes on."""
        started = time.perf_counter_ns()
        backend = self.toolchain.backend(self.target)
        self.toolchain.prepare()
        names = self.toolchain.levels(backend)
        if self.level not in names or self.to not in names or names.index(self.level) >= names.index(self.to):
            raise CompileError(
                "UNSUPPORTED_LEVEL",
                f"there is no way from '{self.level}' to '{self.to}'; the levels are {names}",
            )
        module = self._module = self._load(backend)
        if self.resume_after:
            self._find_resume_point(backend)
        options = self._options(backend, module)
        metadata = self._metadata(backend, options)
        stages = self.toolchain.stages(backend, options)
        if self.shows_passes or self.resume_after:
            show = self._pass_sender(channel) if self.shows_passes and channel is not None else None
            with PassTap(backend, self.toolchain.version, show, self.resume_after or None) as self._tap:
                self._run_stages(names, stages, module, metadata, backend, channel, started)
        else:
            self._run_stages(names, stages, module, metadata, backend, channel, started)

    def _run_stages(
        self,
        names: list[str],
        stages: dict[str, Any],
        module: Any,
        metadata: dict[str, Any],
        backend: Any,
        channel: Channel | None,
        started: int,
    ) -> None:
        if self.level == "ttir" and self._resume_stage != "ttgir":
            # It may come straight from the front end, or have been made for another target.
            module = self._stage("ttir", stages["ttir"], module, metadata)
        elif self.level == "ttgir" and not self._resume_stage and hasattr(module, "get_tensordesc_metadata"):
            metadata["tensordesc_meta"] = module.get_tensordesc_metadata()

        for name in names[names.index(self.level) + 1 : names.index(self.to) + 1]:
            if name == "cubin":
                with PtxasLog(backend) as ptxas:
                    module = self._stage(name, stages[name], module, metadata)
                metadata["ptxas_resources"] = ptxas.resources()
                ptxas.close()
            else:
                module = self._stage(name, stages[name], module, metadata)
            content = module if isinstance(module, bytes) else str(module).encode()
            if name == "ptx":
                self._complete_from_ptx(module, metadata)
            spent = time.perf_counter_ns() - started
            if channel is None:
                continue
            text = json.dumps(metadata, sort_keys=True, separators=(",", ":"), default=plain_value)
            channel.send({"op": "stage", "level": name, "ns": spent, "metadata": text}, content)
            if name == self.to:
                os.sched_yield()  # to the parent, which may have no other processor
                break  # there is nothing left to decide
            reply, _ = channel.receive()
            if reply.get("op") != "continue":
                break
            started = time.perf_counter_ns()

    def _find_resume_point(self, backend: Any) -> None:
        """Passes depend on target and options: the list is that of this request, for a kernel that does nothing."""
        if self.level not in MODULE_LEVELS:
            raise CompileError("UNSUPPORTED_LEVEL", f"a {self.level} file is past every pass: nothing can be resumed")
        path = self.folder / "empty.ttir"
        path.write_bytes(b"module { tt.func public @empty() { tt.return } }\n")
        empty = self.toolchain.parse(path, backend)
        names = list_passes(backend, self.toolchain.version, lambda: self._stages_to_list(backend), empty)
        self.resume_after = find_pass(self.resume_after, names)
        self._resume_stage = self.resume_after.split("/", 1)[0]
        level = "ttgir" if self._resume_stage == "llir" else "ttir"
        if level != self.level:
            raise CompileError(
                "UNSUPPORTED_LEVEL",
                f"what {self.resume_after} leaves behind is given as level {level}, not {self.level}",
            )

    def _stages_to_list(self, backend: Any) -> dict[str, Any]:
        return self.toolchain.stages(backend, choose_options(self.toolchain, backend, self.asked, self.given))

    def _pass_sender(self, channel: Channel) -> Any:
        def send(stage: str, name: str, changed: bool, text: str, spent: int) -> None:
            header = {
                "op": "pass",
                "stage": stage,
                "name": name,
                "index": self._passes,
                "changed": changed,
                "ns": spent,
            }
            channel.send(header, text.encode("utf-8", "replace") if changed else b"")
            self._passes += 1

        return send

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
        if self.level == "ttgir" or self._resume_stage == "ttgir":
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
            given = {k: v for k, v in self.given.items() if k not in self.asked and k not in FIXED_OPTIONS}
            names = {**names, **given}  # a file may be made for an older target than it is compiled for
        digest = hashlib.sha256()
        for part in (self.toolchain.version, self.level, backend.hash(), options.hash()):
            digest.update(str(part).encode() + b"\0")
        digest.update(self.source)
        metadata = {
            **names,
            "hash": digest.hexdigest(),
            "target": dict(self.target),
        }
        # LLIR and PTX hold the scratch parameters of the Triton that made them, if one did: only their metadata tells.
        if self.level in MODULE_LEVELS:
            metadata["triton_version"] = self.toolchain.version
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
        if not re.search(r"\.extern\s+\.shared", ptx):
            metadata.setdefault("shared", 0)  # a cubin would not tell
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
        if self._tap is not None:
            self._tap.begin(name, module)
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


def plain_value(value: Any) -> Any:
    return vars(value) if hasattr(value, "__dict__") else str(value)
