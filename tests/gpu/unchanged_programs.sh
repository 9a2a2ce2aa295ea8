#!/usr/bin/env bash
# Unchanged torch programs on a GPU: with Triton alone, through the daemon, and in its executor, as a transcript.
#
#   unchanged_programs.sh [TESTS]    in an unpacked bundle, or a checkout with build/release or build/dev
#
# TESTS: a folder of pytest's tests that know nothing of trun, such as Triton's own. They run with Triton alone and
# through the daemon, at the same time, and what passes is compared; SAMPLE=N takes each N-th of them, JOBS (4) is how
# many processes each side gets. STEPS: only the steps whose names match that pattern. ROUNDS (3): of the measurement.
# Needs a python3 with torch, Triton, NumPy and grpcio (pytest and pytest-xdist for TESTS), and a GPU. Writes to a
# temporary folder only.
set -uo pipefail
tests=${1:+$(readlink -f "$1")}
cd "$(dirname "$(readlink -f "$0")")/../.."
root=$PWD
home=$(mktemp -d "${TMPDIR:-/tmp}/trun-unchanged-XXXXXX")
export HOME=$home XDG_RUNTIME_DIR=$home TRITON_CACHE_DIR=$home/triton PYTHONDONTWRITEBYTECODE=1
unset XDG_CACHE_HOME XDG_DATA_HOME TRUN_ADDRESS TRUN_PLACEMENT
for place in "$root/bin" "$root/build/release/bin" "$root/build/dev/bin"; do
  [ -x "$place/trund" ] && export PATH=$place:$PATH TRUN_TRUND=$place/trund && break
done
failed=0
stop() { trun-client daemon stop >/dev/null 2>&1; rm -rf "$home"; }
trap stop EXIT
step() {
  [[ $1 =~ ${STEPS:-.} ]] || return 0
  echo
  echo "== $1 ($SECONDS s)"; shift
  "$@" 2>&1 || { echo "FAILED: exit $?"; failed=$((failed + 1)); }
}

if ls "$root"/python/trun-*.whl >/dev/null 2>&1; then
  python3 -m pip install -q --disable-pip-version-check --no-index --no-deps --no-compile --target "$home/site" "$root"/python/trun-*.whl
  export PYTHONPATH=$home/site
else
  export PYTHONPATH=$root/client/python/src
fi

compiled_by_the_daemon() {
  trun-client cache ls --json | python3 -c 'import json, sys
kernels = {entry["kernel"] for entry in json.load(sys.stdin)["entries"]}
print("the daemon compiled", ", ".join(sorted(kernels)))
wanted = {"add_kernel", "gather_kernel", "scale_kernel", "matmul_kernel", "softmax_kernel"}
sys.exit(f"not through the daemon: {wanted - kernels}" if wanted - kernels else 0)'
}
# What torch_cases.py holds of the caller's own stream, graphs and host memory is not so here: daemon_placement.py says
# what is instead.
in_the_daemon() {
  local cases
  cases=$(sed -n 's/^def \([a-z_]*\)() -> None:$/\1/p' tests/gpu/torch_cases.py |
    grep -vE '^child_|graph|waits_for_its_stream_only|pinned_memory')
  python3 -m trun.triton --placement daemon tests/gpu/daemon_placement.py &&
    python3 -m trun.triton --placement daemon tests/gpu/torch_program.py &&
    python3 -m trun.triton --placement daemon tests/gpu/torch_cases.py $cases
}
program() { python3 "$@" tests/gpu/torch_program.py && python3 "$@" tests/gpu/torch_cases.py; }
through_trun() { program -m trun.triton "$@"; }

# pytest's tests on one side: its report in $home/SIDE.xml, its output in $home/SIDE.log.
side() {
  local name=$1; shift
  (cd "$tests" && TRITON_CACHE_DIR=$home/tests-$name python3 "$@" -m pytest -q -p no:cacheprovider -n "${JOBS:-4}" \
    -p sampled --tb=short --junitxml="$home/$name.xml" .) >"$home/$name.log" 2>&1
  tail -n 1 "$home/$name.log"
}
compared() {
  mkdir -p "$home/plugins" && cat >"$home/plugins/sampled.py" <<'END'
import os


def pytest_collection_modifyitems(items):
    items[:] = items[:: int(os.environ.get("SAMPLE", "1"))]
END
  export PYTHONPATH=$home/plugins:$PYTHONPATH
  side alone & side trun -m trun.triton
  wait
  python3 - "$home/alone.xml" "$home/trun.xml" <<'END'
import sys
import xml.etree.ElementTree as xml


def verdicts(path):
    out = {}
    for test in xml.parse(path).iter("testcase"):
        bad = [child for child in test if child.tag in ("failure", "error")]
        skipped = any(child.tag == "skipped" for child in test)
        text = (bad[0].get("message") or "").splitlines()[0][:200] if bad else ""
        out[test.get("classname") + "::" + test.get("name")] = ("failed" if bad else "skipped" if skipped else "passed", text)
    return out


alone, trun = (verdicts(path) for path in sys.argv[1:])
for name, side in (("Triton alone", alone), ("through trun", trun)):
    counts = [sum(verdict == kind for verdict, _ in side.values()) for kind in ("passed", "failed", "skipped")]
    print("{}: {} passed, {} failed, {} skipped".format(name, *counts))
both = [name for name in alone if alone[name][0] == trun.get(name, ("missing", ""))[0] == "failed"]
for name in both[:10]:
    print(f"fails on both sides: {name}: {alone[name][1]}")
different = [name for name in alone if alone[name][0] != trun.get(name, ("missing", ""))[0]]
for name in different[:40]:
    print(f"differs: {name}: alone {alone[name]}, through trun {trun.get(name)}")
print(len(different), "differ")
sys.exit(bool(different) or not alone)
END
}

step "the box" python3 -c 'import torch, triton
print("torch", torch.__version__, "triton", triton.__version__, torch.cuda.get_device_name(0))'
step "who launches" python3 -c 'import trun.triton
trun.triton.install(placement="in-process")
print(trun.triton.launcher())'
step "with Triton alone" env TRITON_CACHE_DIR="$home/alone" bash -c "$(declare -f program); program"
step "in-process, compiled by the daemon" through_trun --placement in-process
step "again, from the caches" through_trun
step "what a launch costs the caller" python3 bench/gpu/launch_in_process.py --rounds "${ROUNDS:-3}"
step "what the daemon has" compiled_by_the_daemon
step "on the emulator of the same box" through_trun --placement emulator --arch sm_90 --cpu-as-cuda
step "in the daemon's executor" in_the_daemon
[ -z "$tests" ] || step "tests that know nothing of trun" compared
echo
echo "$failed steps failed ($SECONDS s)"
[ "$failed" = 0 ]
