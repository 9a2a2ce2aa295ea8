"""What a process and its descendants hold: two moments of a daemon can be compared to see what it leaked."""

from __future__ import annotations

import contextlib
import os
import re
from collections import Counter
from pathlib import Path

# What a command line says about the process's part; the first that fits.
ROLES = ("trun-executor", "trun_frontend", "trun_worker", "trund")


def start_time(pid: int) -> int | None:
    """When a live process started, in clock ticks since boot; None once it is a zombie or gone.

    With its number this names a process: the number alone may be one that has ended, or another's that came later.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else int(fields[19])


def process_table() -> dict[int, tuple[int, str]]:
    """Parent and command line of every live process (a zombie holds nothing)."""
    table = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                state, parent = (entry / "stat").read_text().rsplit(")", 1)[1].split()[:2]
                if state != "Z":
                    command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                    table[int(entry.name)] = (int(parent), command)
    return table


def direct_children(pid: int) -> dict[int, str]:
    return {child: command for child, (parent, command) in process_table().items() if parent == pid}


def descendants(pid: int) -> dict[int, str]:
    """Process id and command line of every live descendant."""
    table, found, parents = process_table(), {}, {pid}
    while parents:
        children = {child: command for child, (parent, command) in table.items() if parent in parents}
        parents = set(children) - set(found)
        found.update(children)
    return found


def descriptors(pid: int) -> list[tuple[int, str]]:
    """Inode and link of each open descriptor."""
    found = []
    with contextlib.suppress(OSError):
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                found.append((entry.stat().st_ino, os.readlink(entry)))
    return found


def mapped_memory_files(pid: int) -> set[tuple[int, str]]:
    """Inode and name of each memory file that the process has mapped."""
    try:
        lines = [line.split() for line in Path(f"/proc/{pid}/maps").read_text().splitlines()]
    except OSError:
        return set()
    return {(int(line[4]), line[5]) for line in lines if len(line) > 5 and line[5].startswith("/memfd:")}


def footprint(pid: int, bounded: Path) -> Counter[str]:
    """Live processes by role, the descriptors of `pid` by kind, and the memory files that any of them holds.

    Files below `bounded` are left out: how many of its files the database keeps open is its own affair. So is the
    one memory file that an executor may have made for itself: scratch memory, where it has run a launch with some.
    """
    family = {pid: "trund", **descendants(pid)}
    held: Counter[str] = Counter()
    shared = {inode for inode, link in descriptors(pid) if link.startswith("/memfd:")}
    for member, command in family.items():
        role = next((role for role in ROLES if role in command), command)
        held[f"process {role}"] += 1
        own = set()
        for inode, link in descriptors(member):
            if link.startswith("/memfd:") and inode not in shared:
                own.add(inode)
            elif link.startswith("/memfd:") or (member == pid and not link.startswith(f"{bounded}/")):
                kind = re.sub(r":\[[0-9]+\]$", "", link)
                held[f"{role}: descriptor {kind}"] += 1
        for inode, name in mapped_memory_files(member):
            if inode in shared:
                held[f"{role}: mapping {name}"] += 1
            else:
                own.add(inode)
        if len(own) > (role == "trun-executor"):
            held[f"{role} with memory files of its own"] += 1
    return held


def files(folder: Path, bounded: Path) -> Counter[str]:
    """Files and folders below `folder` by name, but for those below `bounded`; what is random in a name is left out."""
    found: Counter[str] = Counter()
    for path in folder.rglob("*"):
        if bounded not in path.parents:
            name = re.sub(r"-[0-9]+-[A-Za-z0-9]{6}(?=/|$)", "-*", str(path.relative_to(folder)))
            found[f"file {name}"] += 1
    return found


def difference(before: Counter[str], now: Counter[str]) -> str:
    kinds = sorted(kind for kind in before | now if before[kind] != now[kind])
    return "; ".join(f"{kind}: {before[kind]} before, {now[kind]} now" for kind in kinds)
