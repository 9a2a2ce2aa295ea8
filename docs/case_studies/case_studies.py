#!/usr/bin/env python3
"""The two case studies, again: their tables, and the older version's kernel in the place of the newer one's.

    case_studies.py tables [--check]    writes the tables of README.md anew, or says how they differ
    case_studies.py limit               what sm_86 makes of each version's attention backward, on an emulator of it
    case_studies.py pack FOLDER         every version's machine code for sm_90, from its own IR and from its sm_80 PTX
    case_studies.py run FOLDER          runs and times that on TRUN_DEVICE (cuda:0); FOLDER/times.md is the table

Needs a running daemon (TRUN_ADDRESS, else the user's own) and the trun package; all but `run` need the Triton versions
and trun-client too (TRUN_CLIENT, else in PATH). `limit` needs a daemon with --emulator sm_86. `--versions 3.2.0,3.9.0`
looks at these alone. Exit code 1: a number is wrong.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
CLIENT = os.environ.get("TRUN_CLIENT", "trun-client")
VERSIONS = ["3.0.0", "3.1.0", "3.2.0", "3.3.1", "3.4.0", "3.5.1", "3.6.0", "3.7.1", "3.8.0", "3.9.0"]
ROUNDS = 7
KINDS = ["integer", "convert", "float", "mma", "wgmma", "cp.async", "ldmatrix", "ld.shared", "st.shared", "barrier"]


@dataclass
class Launch:
    arguments: list[Any]
    grid: tuple[int, ...]
    expected: dict[int, Any]  # by position
    tolerance: float


@dataclass(frozen=True)
class Study:
    name: str
    signature: str
    options: dict[str, int]
    sizes: list[int]
    launch: Callable[[int], Launch]

    @property
    def source(self) -> str:
        return f"{HERE / self.name}.py:{self.name}"

    def flags(self) -> list[str]:
        words = ["--signature", self.signature]
        for option, value in self.options.items():
            words += ["-O", f"{option}={value}"]
        return words


def bf16(array: Any) -> Any:
    import ml_dtypes

    return array.astype(ml_dtypes.bfloat16)


def small_gemm(size: int) -> Launch:
    random = np.random.default_rng(size)
    a, b = (random.standard_normal((size, size)).astype(np.float16) for _ in range(2))
    programs = -(-size // 64) * -(-size // 128)
    out = np.zeros((size, size), np.float16)
    expected = a.astype(np.float32) @ b.astype(np.float32)
    return Launch([a, b, out, *(size,) * 6], (programs,), {2: expected}, float(np.abs(expected).max()) * 2**-10)


def attention_backward(length: int) -> Launch:
    heads, dims, scale = (4, 64, 0.125) if length > 256 else (1, 64, 0.125)
    random = np.random.default_rng(length)
    q, k, v, do = (bf16(random.standard_normal((heads, length, dims)) * 0.5) for _ in range(4))
    wide = [x.astype(np.float32) for x in (q, k, v, do)]
    scores = wide[0] @ wide[1].transpose(0, 2, 1) * scale
    lse = np.log(np.exp(scores).sum(2)).astype(np.float32)
    p = np.exp(scores - lse[..., None])
    dp = wide[3] @ wide[2].transpose(0, 2, 1)
    delta = (p * dp).sum(2).astype(np.float32)
    ds = p * (dp - delta[..., None]) * scale
    expected = {6: ds @ wide[1], 7: ds.transpose(0, 2, 1) @ wide[0], 8: p.transpose(0, 2, 1) @ wide[3]}
    outputs = [np.zeros((heads, length, dims), np.float32), bf16(np.zeros_like(wide[0])), bf16(np.zeros_like(wide[0]))]
    return Launch([q, k, v, do, lse, delta, *outputs, length, scale], (heads,), expected, 0.01)


STUDIES = [
    Study(
        "small_gemm",
        "*f16:16,*f16:16,*f16:16,i32:16,i32:16,i32:16,i32:16,i32:16,i32:16,64,128,64,8",
        {"num_warps": 4, "num_stages": 4},
        [512, 1024, 2048, 4096],
        small_gemm,
    ),
    Study(
        "attention_backward",
        "*bf16:16,*bf16:16,*bf16:16,*bf16:16,*f32:16,*f32:16,*f32:16,*bf16:16,*bf16:16,i32:16,f32,128,128,64",
        {"num_warps": 8, "num_stages": 1},
        [1024, 4096],
        attention_backward,
    ),
]


def client(*words: Any) -> str:
    done = subprocess.run([CLIENT, *map(str, words)], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, words[:2]))} exited {done.returncode}: {done.stdout[-500:]}{done.stderr[-2000:]}")
    return done.stdout


def table(rows: list[list[str]]) -> str:
    head, *body = rows
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, ["---"] * len(head), *body])


def matrix_table(study: Study, versions: list[str]) -> str:
    given = ["--versions", ",".join(versions), "--arch", "sm_80,sm_90"]
    cells = json.loads(client("matrix", study.source, *given, *study.flags(), "--json"))["cells"]
    kinds = [kind for kind in KINDS if any(cell["instructions"].get(kind, 0) > 3 for cell in cells)]
    rows = [["target", "Triton", "registers", "shared bytes", "spilled bytes", "PTX instructions", *kinds]]
    for cell in sorted(cells, key=lambda c: (c["arch"], c["version"])):
        counts = cell["instructions"]
        spilled = cell["spill_store_bytes"] + cell["spill_load_bytes"]
        row = [cell["arch"], cell["version"], cell["registers"], cell["shared_bytes"], spilled, counts["total"]]
        rows.append([str(value) for value in [*row, *(counts.get(kind, 0) for kind in kinds)]])
    return table(rows)


def tables(check: bool, asked: list[str]) -> int:
    page = HERE / "README.md"
    text = page.read_text()
    there = {line["name"] for line in json.loads(client("toolchains", "list", "--json"))["toolchains"]}
    versions = [version for version in asked if version in there]
    if not check and versions != VERSIONS:
        sys.exit(f"the tables need every version; missing: {sorted(set(VERSIONS) - there)}")
    differences = 0
    for study in STUDIES:
        begin, end = f"<!-- {study.name} -->\n", f"\n<!-- end of {study.name} -->"
        made = matrix_table(study, versions)
        before, rest = text.split(begin, 1)
        old, after = rest.split(end, 1)
        if check:
            known = set(old.splitlines())
            for line in made.splitlines()[2:]:
                if line not in known:
                    print(f"{study.name}: README.md does not have {line}")
                    differences += 1
        text = before + begin + made + end + after
    if not check:
        page.write_text(text)
    return 1 if differences else 0


def worst_of(launch: Launch) -> float:
    return max(
        float(np.abs(launch.arguments[position].astype(np.float32) - expected).max())
        for position, expected in launch.expected.items()
    )


def compiled(study: Study, version: str, target: str, to: str, folder: Path) -> Path:
    client(
        "compile", study.source, "--toolchain", version, "--target", target, "--to", to, *study.flags(), "-o", folder
    )
    return folder / f"{study.name}.{to}"


def limit(asked: list[str]) -> int:
    """On sm_86 a CTA has 101,376 bytes of shared memory, as on an A10G."""
    import trun

    study = STUDIES[1]
    devices = json.loads(client("devices", "--json"))["devices"]
    device = next((d["device"] for d in devices if d["target"].startswith("cuda:86")), None)
    if device is None:
        sys.exit("no device of sm_86: start trund with --emulator sm_86")
    failed = 0
    with trun.connect(device=device) as session:
        text = {"file": study.source, "source": (HERE / f"{study.name}.py").read_text(), "function": study.name}
        bundle = json.dumps({"format": 1, "text": text, "arguments": described(study)}).encode()
        there = {toolchain.name for toolchain in session.toolchains()}
        for version in (v for v in asked if v in there):
            launch = study.launch(256)
            try:
                kernel = session.load(bundle, level="python", options=study.options, toolchain=version)
                kernel[launch.grid](*launch.arguments, deadline=120)
                worst = worst_of(launch)
                answer = f"{kernel.metadata['shared']} bytes of shared memory, off by {worst:.4f} at most"
                failed += worst > launch.tolerance or version >= "3.3"
            except trun.TrunError as error:
                answer = f"refused: {str(error).splitlines()[0]}"
                limit = "114688 bytes of shared memory for one block; sm_86 has at most 101376"
                failed += limit not in answer or version < "3.3"
            print(f"{version}: {answer}", flush=True)
    return 1 if failed else 0


def described(study: Study) -> dict[str, Any]:
    """The arguments of a source bundle (docs/formats/source-bundle.md)."""
    import inspect

    import trun

    arguments: dict[str, Any] = {}
    names = list(inspect.signature(stand_in(trun, study).fn).parameters)
    for name, word in zip(names, study.signature.split(","), strict=True):
        kind, _, divisor = word.partition(":")
        if kind.startswith("*"):
            arguments[name] = {"kind": "pointer", "dtype": kind[1:], "divisible": bool(divisor)}
        elif kind.isdigit():
            arguments[name] = {"kind": "constexpr", "value": int(kind)}
        else:
            arguments[name] = {"kind": "scalar", "dtype": kind, "divisible": bool(divisor)}
    return arguments


def pack(folder: Path) -> int:
    for study in STUDIES:
        for version in VERSIONS:
            own = folder / "sm_90" / version
            compiled(study, version, "sm_90", "cubin", own)
            other = folder / "sm_80" / version
            ptx = compiled(study, version, "sm_80", "ptx", other)
            # The same instructions on a newer GPU, by the ptxas of that version.
            client("compile", ptx, "--toolchain", version, "--target", "sm_90", "--to", "cubin", "-o", other / "again")
            (other / "again" / f"{study.name}.cubin").rename(other / f"{study.name}.cubin")
            (other / "again" / f"{study.name}.json").rename(other / f"{study.name}.json")
            for place in (own, other):
                for file in [*place.glob("*.*"), *place.glob("again/*")]:
                    if file.suffix not in (".ptx", ".cubin", ".json"):
                        file.unlink()
    return 0


def run(folder: Path) -> int:
    import trun

    sys.path.insert(0, str(HERE))
    device = os.environ.get("TRUN_DEVICE", "cuda:0")
    emulated = device.startswith("emulator")  # of sm_90: it runs the PTX, of one small size, and times nothing
    lines, failed = [], 0
    with trun.connect(device=device) as session:
        for study in STUDIES:
            kernel = stand_in(trun, study)
            sizes = [256] if emulated else study.sizes
            origins = ("sm_90",) if emulated else ("sm_80", "sm_90")
            cells: dict[tuple[str, str, int], str] = {}
            for size in sizes:
                launch = study.launch(size)
                tensors = [session.tensor(a) if isinstance(a, np.ndarray) else a for a in launch.arguments]
                made = {}
                for origin in origins:
                    for version in VERSIONS:
                        for position in launch.expected:
                            tensors[position].fill(0)
                        # What a user of the newer Triton writes to run the older one's machine code.
                        file = {"ptx_dir" if emulated else "cubin_dir": folder / origin / version}
                        code = kernel[launch.grid](*tensors, **file, session=session, deadline=120)
                        worst = max(
                            float(np.abs(tensors[position].numpy().astype(np.float32) - expected).max())
                            for position, expected in launch.expected.items()
                        )
                        if worst <= launch.tolerance:
                            cells[origin, version, size] = "right"
                            made[origin, version] = code[launch.grid]
                        else:
                            cells[origin, version, size] = f"WRONG by {worst:.3g}"
                            failed += 1
                if not emulated:
                    for key, seconds in times_of(made, tensors).items():
                        cells[(*key, size)] = f"{seconds * 1e6:.1f}"
                for tensor in tensors:
                    if isinstance(tensor, trun.Tensor):
                        tensor.free()
            rows = [["code of", "Triton", *(f"{size}" for size in sizes)]]
            rows += [[o, v, *(cells[o, v, size] for size in sizes)] for o in origins for v in VERSIONS]
            lines += [f"{study.name} on {session.device_name}, µs:", "", table(rows), ""]
            print("\n".join(lines[-4:]), flush=True)
    (folder / "times.md").write_text("\n".join(lines))
    return 1 if failed else 0


def times_of(launches: dict[Any, Any], tensors: list[Any]) -> dict[Any, float]:
    """Median over rounds, in which each takes its turn, of the fastest of some launches."""
    rounds: dict[Any, list[float]] = {key: [] for key in launches}
    for _ in range(ROUNDS):
        for key, launch in launches.items():
            rounds[key].append(launch.benchmark(*tensors, warmup=3, repetitions=20).best)
    return {key: float(np.median(times)) for key, times in rounds.items()}


def stand_in(trun: Any, study: Study) -> Any:
    """The kernel, imported with trun in the place of Triton."""
    import importlib

    import trun.language

    sys.modules.setdefault("triton", trun)
    sys.modules.setdefault("triton.language", trun.language)
    return getattr(importlib.import_module(study.name), study.name)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("tables").add_argument("--check", action="store_true")
    commands.add_parser("limit")
    for command in commands.choices.values():
        command.add_argument("--versions", default=",".join(VERSIONS))
    for name in ("pack", "run"):
        commands.add_parser(name).add_argument("folder", type=Path)
    options = parser.parse_args()
    if options.command == "tables":
        return tables(options.check, options.versions.split(","))
    if options.command == "limit":
        return limit(options.versions.split(","))
    return pack(options.folder) if options.command == "pack" else run(options.folder)


if __name__ == "__main__":
    sys.exit(main())
