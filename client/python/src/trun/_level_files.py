"""A file of any level in the place of a kernel's own source: ttir_dir=, ttgir_dir=, llir_dir=, ptx_dir=, cubin_dir=,
the inline ttir_src= ..., and metadata_json=, as arguments of a launch.

A folder holds KERNEL.LEVEL, and KERNEL.json where the level needs it: trun.get_file_dir(__file__), or an entry of
Triton's own cache folder. The log "trun" (logging) says where a kernel was saved, and when the cache had it.
"""

from __future__ import annotations

import json
import logging
import pathlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trun.errors import argument_error

if TYPE_CHECKING:
    from trun.kernel import Kernel
    from trun.session import Session

LEVELS = ("ttir", "ttgir", "llir", "ptx", "cubin")
log = logging.getLogger("trun")


def get_file_dir(file: str) -> str:
    """The folder of a script: get_file_dir(__file__)."""
    return str(pathlib.Path(file).resolve().parent)


@dataclass(frozen=True)
class LevelFiles:
    level: str
    folder: str  # or
    source: str | bytes
    metadata: str | Mapping[str, Any] | None

    def load(self, name: str, session: Session, options: dict[str, Any], toolchain: str | None) -> Kernel:
        if self.folder:
            path = self._find(name)
            kernel = session.load(
                path, level=self.level, metadata=self.metadata, options=options, toolchain=toolchain, kernel_name=None
            )
        else:
            content = self.source.encode() if isinstance(self.source, str) else self.source
            kernel = session.load(
                content, level=self.level, metadata=self.metadata, options=options, toolchain=toolchain
            )
        announce(kernel)
        return kernel

    def _find(self, name: str) -> pathlib.Path:
        """NAME.LEVEL in the folder, or in one below it: a Triton cache folder has one for each kernel."""
        folder = pathlib.Path(self.folder)
        path = folder / f"{name}.{self.level}"
        if path.is_file():
            return path
        below = sorted(folder.glob(f"*/{name}.{self.level}"), key=lambda found: found.stat().st_mtime)
        if not below:
            raise argument_error(f"there is no {name}.{self.level} in {folder} or in a folder of it")
        if len(below) > 1:
            log.info("%s has %d files %s; the newest is taken", folder, len(below), path.name)
        return below[-1]


def take(kwargs: dict[str, Any]) -> LevelFiles | None:
    """Takes these arguments out of a launch's; None where it has none. At most one level may be named."""
    metadata = kwargs.pop("metadata_json", None)
    if isinstance(metadata, dict):
        metadata = json.dumps(metadata)
    found: list[LevelFiles] = []
    for level in LEVELS:
        folder, source = kwargs.pop(f"{level}_dir", None), kwargs.pop(f"{level}_src", None)
        if folder is not None:
            found.append(LevelFiles(level, str(folder), "", metadata))
        if source is not None:
            found.append(LevelFiles(level, "", source, metadata))
    if len(found) > 1:
        raise argument_error(f"a launch takes a kernel from one place, not from {len(found)}")
    if metadata is not None and not found:
        raise argument_error("metadata_json= belongs to a file: give ttgir_dir=, llir_src=, ... too")
    return found[0] if found else None


def announce(kernel: Kernel) -> None:
    """What a user of a kernel folder wants to know of each launch's compile."""
    where = f"entry {kernel.cache_key[:16]} of the daemon's cache"
    if kernel.cached:
        log.info("kernel cache hit: %s is %s", kernel.name, where)
    else:
        log.info("kernel saved: %s, compiled by Triton %s, is %s", kernel.name, kernel.toolchain or "(none)", where)
