"""One example of each kind of report: small kernels with a mistake each, run by trun-client.

    python tests/integration/reports.py       regenerates docs/emulator-reports.md (needs build/dev)

test_reports.py holds the page to what the command line prints.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/emulator-reports.md"


@dataclass(frozen=True)
class Report:
    name: str
    title: str
    source: str  # of kernel.py; line 1 is its first line
    body: str  # PTX; "@N" alone on a line is the source line of what follows
    words: str  # of trun-client run, behind the file
    declarations: str = ""
    warps: int = 1
    target: str = "sm_80"
    device: str = "emulator:0"
    shows: tuple[str, ...] = field(default=())  # what the text has to have, besides the page

    def ptx(self) -> str:
        body = re.sub(r"^@(\d+)$", r".loc 1 \1 5", self.body, flags=re.MULTILINE)
        return f""".version 8.4
.target {self.target}
.address_size 64
{self.declarations}
.visible .entry {self.name}(.param .u64 x, .param .u32 n)
.reqntid {32 * self.warps}, 1, 1
{{
.reg .pred %p<8>; .reg .b32 %r<16>; .reg .b64 %rd<8>;
ld.param.u64 %rd1, [x];
ld.param.u32 %r1, [n];
mov.u32 %r2, %tid.x;
mul.wide.u32 %rd2, %r2, 4;
add.s64 %rd3, %rd1, %rd2;
{body}
ret;
}}
.file 1 "kernel.py"
"""

    def metadata(self) -> str:
        arch = self.target.removeprefix("sm_").rstrip("a")
        return (
            f'{{"name": "{self.name}", "num_warps": {self.warps}, "shared": 0, "num_ctas": 1,'
            f' "target": {{"backend": "cuda", "arch": {arch}, "warp_size": 32}}}}'
        )


SHARED = ".shared .align 16 .b8 s[512];"

REPORTS = [
    Report(
        "scale",
        "An access past the end of a tensor",
        "def scale(x, n):\n    i = tl.arange(0, 32)\n    v = tl.load(x + i)  # no mask\n    tl.store(x + i, v * 2)\n",
        "@3\nld.global.b32 %r3, [%rd3];\nadd.u32 %r3, %r3, %r3;\n@4\nst.global.b32 [%rd3], %r3;",
        "--arg 0=i32[31] --arg 1=31",
        shows=("just past its end", "kernel.py:3"),
    ),
    Report(
        "through_null",
        "A null pointer",
        "def through_null(x, n):\n    v = tl.load(x)\n",
        "@2\nld.global.b32 %r3, [%rd3];",
        "--arg 0=null --arg 1=1",
        shows=("null pointer",),
    ),
    Report(
        "misaligned",
        "An access that is not aligned",
        "def misaligned(x, n):\n    v = tl.load(x.to(tl.pointer_type(tl.int64)))\n",
        "@2\nld.global.b64 %rd4, [%rd1+4];",
        "--arg 0=i32[8] --arg 1=1",
        shows=("is not aligned",),
    ),
    Report(
        "shared_bounds",
        "Shared memory out of bounds",
        "def shared_bounds(x, n):\n    v = tl.sum(tl.load(x))\n",
        "@2\nmov.u32 %r3, s;\nst.shared.b32 [%r3+512], %r2;",
        "--arg 0=i32[32] --arg 1=1",
        SHARED,
        shows=("of shared memory is out of bounds",),
    ),
    Report(
        "stack",
        "Local memory out of bounds: the stack of a thread",
        "def stack(x, n):\n    v = spill(x)\n",
        "@2\nmul.wide.u32 %rd4, %r1, 4;\ncvt.u64.u32 %rd5, %r1;\nmov.u64 %rd5, l;\nadd.s64 %rd5, %rd5, %rd4;\n"
        "st.local.b32 [%rd5], %r2;",
        "--arg 0=i32[32] --arg 1=4",
        ".local .align 16 .b8 unused[16];",
        shows=("of local memory is out of bounds",),
    ),
    Report(
        "half_a_barrier",
        "A barrier that not all threads reach",
        "def half_a_barrier(x, n):\n    if warp() == 0:\n        barrier()\n",
        "setp.ge.u32 %p1, %r2, 32;\n@%p1 bra $end;\n@3\nbar.sync 0;\n$end:",
        "--arg 0=i32[64] --arg 1=1",
        warps=2,
        shows=("32 of 64 threads",),
    ),
    Report(
        "parted",
        "Lanes that never meet at a .sync instruction",
        "def parted(x, n):\n    if lane() < 16:\n        a = shuffle(x)\n    else:\n        b = shuffle(x)\n",
        "setp.lt.u32 %p1, %r2, 16;\n@%p1 bra $other;\n@5\nshfl.sync.bfly.b32 %r4, %r2, 1, 31, -1;\nbra $end;\n"
        "$other:\n@3\nshfl.sync.bfly.b32 %r5, %r2, 1, 31, -1;\n$end:",
        "--arg 0=i32[64] --arg 1=1",
        shows=("wait for others that never come",),
    ),
    Report(
        "no_arrival",
        "An mbarrier that can never complete",
        "def no_arrival(x, n):\n    bar = allocate_mbarrier(count=2)\n    arrive(bar)\n    wait(bar, 0)\n",
        "setp.ne.u32 %p1, %r2, 0;\n@%p1 bra $end;\nmov.u32 %r3, b;\n@2\nmbarrier.init.shared::cta.b64 [%r3], 2;\n@3\n"
        "mbarrier.arrive.shared::cta.b64 _, [%r3];\n@4\n$again:\n"
        "mbarrier.try_wait.parity.shared::cta.b64 %p2, [%r3], 0;\n@!%p2 bra $again;\n$end:",
        "--arg 0=i32[64] --arg 1=1",
        ".shared .align 8 .b64 b;",
        target="sm_90",
        device="emulator:1",
        shows=("a phase of this mbarrier never completes",),
    ),
    Report(
        "endless",
        "A launch that passes its deadline",
        "def endless(x, n):\n    while tl.load(x, volatile=True) == 0:\n        pass\n",
        "@2\n$again:\nld.volatile.global.b32 %r3, [%rd1];\nsetp.eq.u32 %p1, %r3, 0;\n@%p1 bra $again;",
        "--arg 0=i32[1] --arg 1=1 --deadline 300ms",
        shows=("passed its deadline",),
    ),
    Report(
        "trapped",
        "A trap",
        "def trapped(x, n):\n    tl.device_assert(n == 0)\n",
        "setp.eq.u32 %p1, %r1, 0;\n@%p1 bra $end;\n@2\ntrap;\n$end:",
        "--arg 0=i32[1] --arg 1=1",
        shows=("executed trap",),
    ),
    Report(
        "masked_load",
        "--check=uninit: a masked-off value is stored",
        "def masked_load(x, n):\n    i = tl.arange(0, 32)\n    v = tl.load(x + i, mask=i < n)  # no other=\n"
        "    tl.store(x + i, v + 1)  # no mask\n",
        "@3\nsetp.lt.u32 %p1, %r2, %r1;\n@%p1 ld.global.b32 %r3, [%rd3];\nadd.u32 %r4, %r3, 1;\n@4\n"
        "st.global.b32 [%rd3], %r4;",
        "--arg 0=i32[32] --arg 1=20 --check uninit",
        shows=("uninitialised", "thread (20, 0, 0)"),
    ),
    Report(
        "unwritten_shared",
        "--check=uninit: shared memory that nothing wrote decides a branch",
        "def unwritten_shared(x, n):\n    s = allocate_shared()\n    v = s[4]\n    if v > 0:\n        tl.store(x, v)\n",
        "@3\nmov.u32 %r3, s;\nld.shared.b32 %r4, [%r3+16];\n@4\nsetp.eq.u32 %p1, %r4, 0;\n@%p1 bra $end;\n@5\n"
        "st.global.b32 [%rd1], %r4;\n$end:",
        "--arg 0=i32[32] --arg 1=1 --check uninit",
        SHARED,
        shows=("a branch depends on", "kernel.py:3"),
    ),
    Report(
        "no_barrier",
        "--check=race: two warps and no barrier",
        "def no_barrier(x, n):\n    s[i] = i\n    tl.store(x + i, s[i ^ 32])\n",
        "@2\nmov.u32 %r3, s;\nshl.b32 %r4, %r2, 2;\nadd.u32 %r5, %r3, %r4;\nadd.u32 %r8, %r2, 1;\n"
        "st.shared.b32 [%r5], %r8;\n@3\nxor.b32 %r6, %r4, 128;\nadd.u32 %r6, %r6, %r3;\n"
        "ld.shared.b32 %r7, [%r6];\nst.global.b32 [%rd3], %r7;",
        "--arg 0=i32[64] --arg 1=1 --check race",
        SHARED,
        warps=2,
        shows=("races with", "earlier"),
    ),
    Report(
        "counter",
        "--check=race: a counter of all programs that is no atomic",
        "def counter(x, n):\n    tl.store(x, tl.load(x) + 1)\n",
        "@2\nsetp.ne.u32 %p1, %r2, 0;\n@%p1 bra $end;\nld.global.b32 %r3, [%rd1];\nadd.u32 %r3, %r3, 1;\n"
        "st.global.b32 [%rd1], %r3;\n$end:",
        "--arg 0=i32[1] --arg 1=1 --grid 4 --check race",
        shows=("earlier write: kernel.py:2 by program (0, 0, 0)",),
    ),
    Report(
        "no_wait",
        "--check=async: a copy that nothing waited for",
        "def no_wait(x, n):\n    copy_async(s, x)\n    commit()\n    tl.store(x, s[0])  # no wait\n",
        "@2\nmov.u32 %r3, s;\nshl.b32 %r4, %r2, 2;\nadd.u32 %r5, %r3, %r4;\n"
        "cp.async.ca.shared.global [%r5], [%rd3], 4;\n@3\ncp.async.commit_group;\n@4\n"
        "ld.shared.b32 %r6, [%r5];\nst.global.b32 [%rd3], %r6;",
        "--arg 0=i32[32]:arange --arg 1=1 --check async",
        SHARED,
        shows=("nothing has waited for",),
    ),
    Report(
        "traced",
        "--trace: what one thread does",
        "def traced(x, n):\n    i = tl.arange(0, 32)\n    v = i * n\n    tl.store(x + i, v + 1)\n",
        "@3\nmul.lo.u32 %r3, %r2, %r1;\n@4\nadd.u32 %r4, %r3, 1;\nst.global.b32 [%rd3], %r4;",
        "--arg 0=i32[32] --arg 1=10 --trace line,reg --trace-thread 7",
        shows=("%r4 = 0x00000047 (71)", "kernel.py:4"),
    ),
]


def write(report: Report, folder: Path) -> list[str]:
    """Puts the kernel's files there; the words of its run."""
    ptx = report.ptx()
    if report.name == "stack":  # a local variable belongs to the function
        ptx = ptx.replace(report.declarations, "").replace(".reg .pred", ".local .align 16 .b8 l[16];\n.reg .pred", 1)
    (folder / f"{report.name}.ptx").write_text(ptx)
    (folder / f"{report.name}.json").write_text(report.metadata())
    (folder / "kernel.py").write_text(report.source)
    return ["run", f"{report.name}.ptx", "--device", report.device, *report.words.split()]


def steady(text: str) -> str:
    """The text without what differs from run to run: times and addresses."""
    text = re.sub(r"0x[0-9a-f]{9,}", "0x…", text)
    timed = re.compile(r"\d(\.\d+)? ?(ns|us|µs|ms|s)\b")
    return "\n".join(line.rstrip() for line in text.splitlines() if not timed.search(line))


def transcript(report: Report, words: list[str], output: str) -> str:
    shown = " ".join(words)
    return f"## {report.title}\n\n```python\n{report.source}```\n\n```\n$ trun-client {shown}\n{steady(output)}\n```\n"


HEAD = """# Reports of the emulator

One example of each kind, as `trun-client` prints it. Made by `tests/integration/reports.py`, which holds the kernels
(PTX with the line numbers of the source shown) and runs them; `tests/integration/test_reports.py` sees that they
still look so. Addresses are shown as `0x…`. A use after free needs a pointer that outlives its tensor, which the
command line cannot make: `server/device/emulator/strictness_test.cc` has that one.
"""


def page(transcripts: list[str]) -> str:
    return HEAD + "\n" + "\n".join(transcripts)


def main() -> int:
    build = ROOT / "build/dev"
    client = build / "bin/trun-client"
    transcripts = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        folder.chmod(0o700)
        environment = {"PATH": "/usr/bin:/bin", "HOME": scratch, "XDG_RUNTIME_DIR": scratch}
        try:
            for report in REPORTS:
                words = write(report, folder)
                done = subprocess.run(
                    [client, *words], cwd=folder, env=environment, capture_output=True, text=True, timeout=120
                )
                transcripts.append(transcript(report, words, done.stdout + done.stderr))
        finally:
            subprocess.run([client, "daemon", "stop"], env=environment, capture_output=True, timeout=60)
    PAGE.write_text(page(transcripts))
    return 0


if __name__ == "__main__":
    sys.exit(main())
