"""What ptxas says: why it refuses, and what the code it made takes."""

from __future__ import annotations

import os
import re
import tempfile
from typing import Any

from trun_worker.diagnostics import place
from trun_worker.errors import CompileError
from trun_worker.toolchain import compiler_names


class PtxasLog:
    """While entered, keeps what `ptxas -v` writes: Triton runs it so, into a file that it deletes afterwards."""

    def __init__(self, backend: Any) -> None:
        self._names = compiler_names(backend)
        self._log = -1

    def __enter__(self) -> PtxasLog:
        self._names["tempfile"] = self
        return self

    def __exit__(self, *_: object) -> None:
        self._names["tempfile"] = tempfile

    def __getattr__(self, name: str) -> Any:  # in the place of the module tempfile
        return getattr(tempfile, name)

    def NamedTemporaryFile(self, *arguments: Any, **named: Any) -> Any:
        file = tempfile.NamedTemporaryFile(*arguments, **named)
        if named.get("suffix") == ".log":
            self.close()
            self._log = os.dup(file.fileno())
        return file

    def resources(self) -> dict[str, int] | None:
        """Of one thread of the only kernel; None where there are several, or ptxas told nothing."""
        if self._log < 0:
            return None
        text = os.pread(self._log, 1 << 20, 0).decode("utf-8", "replace")
        registers = re.findall(r"Used (\d+) registers", text)
        spills = re.findall(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", text)
        if len(registers) != 1 or len(spills) != 1:
            return None
        stack, stores, loads = (int(number) for number in spills[0])
        shared = re.search(r"(\d+) bytes smem", text)
        return {
            "registers": int(registers[0]),
            "stack_bytes": stack,
            "spill_store_bytes": stores,
            "spill_load_bytes": loads,
            "static_shared_bytes": int(shared.group(1)) if shared else 0,
        }

    def close(self) -> None:
        if self._log >= 0:
            os.close(self._log)
        self._log = -1


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
