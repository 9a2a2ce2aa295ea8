"""docs/emulator-reports.md: what trun-client says of each kind of mistake that the emulator reports.

usage: build/tools/venv/bin/python tests/integration/emulator_reports.py
Writes the page anew from runs of the kernels in server/device/emulator/testdata/reports; test_reports.py holds it to
them.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parents[2]
KERNELS = ROOT / "server/device/emulator/testdata/reports"
PAGE = ROOT / "docs/emulator-reports.md"

if TYPE_CHECKING:
    from daemon import Daemon

FLAGS = ("--emulator", "sm_90")  # of the daemon: it runs what is for sm_80, too

HEAD = """# Reports of the emulator

One kernel for each kind of report, and what `trun-client` says of it. The kernels are
`server/device/emulator/testdata/reports/*.ptx` (PTX by hand, with the line numbers of the source that is shown); beside
each lies the metadata that Triton would write. `tests/integration/emulator_reports.py` runs them and writes this page,
`tests/integration/test_reports.py` holds it to what they give. Addresses are those of a session that is the daemon's
first.
"""


@dataclass
class Report:
    """`arguments`: the words behind the file's name. `freed`: the tensor that the kernel finds is freed before."""

    name: str
    arguments: list[str]
    reason: str = ""  # none: the run ends well, and has a trace
    warps: int = 1
    arch: int = 80
    freed: bool = False
    plain: list[str] = field(default_factory=list)  # what only a check sees runs well with these words


def tensor(count: int, *words: str, value: int = 1) -> list[str]:
    return ["--arg", f"0=i32[{count}]", "--arg", f"1={value}", *words]


def checked(
    name: str, arguments: list[str], check: str, warps: int = 1, arch: int = 80, plain: list[str] | None = None
) -> Report:
    reason = "UNINITIALIZED_READ" if check == "uninit" else "RACE"
    words = [*arguments, "--check", check]
    return Report(name, words, reason, warps, arch, plain=arguments if plain is None else [*plain, "--check", check])


REPORTS = (
    Report("scale", tensor(31), "ILLEGAL_ADDRESS"),
    Report("through_null", ["--arg", "0=null", "--arg", "1=1"], "ILLEGAL_ADDRESS"),
    Report("misaligned", tensor(32), "MISALIGNED_ADDRESS"),
    Report("use_after_free", [], "USE_AFTER_FREE", freed=True),
    Report("shared_bounds", tensor(32), "ILLEGAL_ADDRESS"),
    Report("param_bounds", tensor(32), "ILLEGAL_ADDRESS"),
    Report("constant_write", tensor(32), "ILLEGAL_ADDRESS"),
    Report("stack", tensor(32, value=4), "ILLEGAL_ADDRESS"),
    Report("local_overflow", tensor(32, value=13), "ILLEGAL_ADDRESS"),
    Report("half_a_barrier", tensor(32), "BARRIER_DIVERGENCE", warps=2),
    Report("parted", tensor(32), "BARRIER_DIVERGENCE"),
    Report("no_arrival", tensor(32), "HUNG_KERNEL", arch=90),
    Report("endless", tensor(32, "--deadline", "200ms"), "HUNG_KERNEL"),
    Report("trapped", tensor(32), "DEVICE_ASSERT"),
    Report("asserted", tensor(32, value=11), "DEVICE_ASSERT"),
    Report("unsupported", tensor(32), "UNSUPPORTED_INSTRUCTION"),
    checked("unwritten_register", tensor(32), "uninit"),
    checked("masked_load", tensor(32, value=20), "uninit"),
    checked("unwritten_shared", tensor(32), "uninit"),
    checked(
        "accumulate",
        ["--out", "0=i32[32]", "--arg", "1=1"],
        "uninit",
        plain=["--out", "0=i32[32]:zeros", "--arg", "1=1"],
    ),
    checked("half_a_tile", tensor(512), "uninit", warps=4, arch=90),
    checked("unwritten_copy", tensor(32), "uninit", arch=90),
    checked("no_barrier", tensor(64), "race", warps=2),
    checked("counter", tensor(1, "--grid", "4"), "race"),
    checked("lanes", tensor(32), "race"),
    checked("no_proxy_fence", tensor(4), "race", arch=90),
    checked("no_global_fence", tensor(32, value=100), "race", arch=90),
    checked("no_map_fence", tensor(64, value=32), "race", arch=90),
    checked("no_wait", tensor(32), "async"),
    checked("no_wait_at_end", tensor(4), "async", arch=90),
    checked("no_product_wait", tensor(128), "async", warps=4, arch=90),
    Report("traced", tensor(32, "--trace", "line,reg", "--trace-thread", "7", value=10)),
)


def metadata(report: Report) -> str:
    target = {"backend": "cuda", "arch": report.arch, "warp_size": 32}
    return json.dumps({"name": report.name, "num_warps": report.warps, "shared": 0, "num_ctas": 1, "target": target})


def run(client: Path, daemon: Daemon, folder: Path, name: str, words: list[str]) -> subprocess.CompletedProcess[str]:
    """trun-client with the files of the kernels beside it."""
    for report in REPORTS:
        if report.name == name:
            (folder / f"{name}.ptx").write_text((KERNELS / f"{name}.ptx").read_text())
            (folder / f"{name}.json").write_text(metadata(report))
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(folder), "TRUN_ADDRESS": f"unix:{daemon.socket}"}
    command = [client, "run", f"{name}.ptx", *words]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)


def at_first_session(text: str) -> str:
    """Each session of a daemon has its tensors at other addresses: here as in the first."""
    found = [int(a, 16) for a in re.findall(r"0x0*(2000[0-9a-f]{8})\b", text)]
    if not found:
        return text
    base = min(found) // (2 << 20) * (2 << 20)

    def moved(match: re.Match[str]) -> str:
        digits = match[1]
        return f"0x{int(digits, 16) - base + 0x200000000000:0{len(digits)}x}"

    text = re.sub(r"0x(0*2000[0-9a-f]{8})\b", moved, text)
    return re.sub(r"= (0x0*2000[0-9a-f]{8}) \(\d+\)", lambda m: f"= {m[1]} ({int(m[1], 16)})", text)


def heading(ptx: str) -> str:
    """The comment lines that a kernel's file begins with: the title, then the source."""
    title, source = "", []
    for line in ptx.splitlines():
        if not line.startswith("// "):
            break
        if line.startswith("//   "):
            source.append(line[5:])
        else:
            title = line[3:]
    return f"\n## {title}\n\n```python\n" + "\n".join(source) + "\n```\n\n"


def use_after_free(daemon: Daemon, report: Report) -> str:
    """The command line frees nothing before a launch; a program that does is told the same."""
    from daemon import CallError

    session = daemon.open_session()
    try:
        kernel = session.compile((KERNELS / "use_after_free.ptx").read_text(), "ptx", metadata_json=metadata(report))
        table, x = session.allocate("int64", 1), session.allocate("int32", 32)
        session.write(table.tensor, x.device_address.to_bytes(8, "little"))
        session.free(x.tensor)
        try:
            session.launch(kernel.kernel, (1,), table, 7)
        except CallError as error:
            return f"{error.message} [{error.reason}]\n"
        return "nothing\n"
    finally:
        session.close()


def section(client: Path, daemon: Daemon, folder: Path, report: Report) -> str:
    text = heading((KERNELS / f"{report.name}.ptx").read_text())
    if report.freed:
        said = use_after_free(daemon, report)
        return (
            text + "What a program is told that frees x and then launches:\n\n```\n" + at_first_session(said) + "```\n"
        )
    done = run(client, daemon, folder, report.name, report.arguments)
    words = " ".join(f"'{word}'" if re.search(r"[\[\]]", word) else word for word in report.arguments)
    said = done.stderr if report.reason else done.stdout[done.stdout.find("trace of one thread:") :]
    return f"{text}```\n$ trun-client run {report.name}.ptx {words}\n{at_first_session(said).strip()}\n```\n"


def page(client: Path, daemon: Daemon, folder: Path) -> str:
    return HEAD + "".join(section(client, daemon, folder, report) for report in REPORTS)


def main() -> None:
    sys.path.insert(0, str(Path(__file__).parent))
    import conftest

    conftest._generate_stubs()
    from daemon import Daemon

    with tempfile.TemporaryDirectory() as folder:
        daemon = Daemon(Path(folder), conftest.BUILD, conftest.TOOLCHAINS, *FLAGS)
        daemon.start()
        try:
            PAGE.write_text(page(conftest.BUILD / "bin/trun-client", daemon, Path(folder)))
        finally:
            daemon.stop()


if __name__ == "__main__":
    main()
