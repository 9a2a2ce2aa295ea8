#!/usr/bin/env bash
# Unchanged torch programs on a GPU: with Triton alone, through the daemon, and in its executor, as a transcript.
#
#   unchanged_programs.sh [TESTS]    in an unpacked bundle, or a checkout with build/release or build/dev
#
# TESTS: a folder of pytest's tests that know nothing of trun, such as Triton's own. They run on each of SIDES, and what
# passes is compared case by case with the first, which is "alone" (Triton alone, on the GPU): "trun" is through the daemon,
# at the same time; "sm_90" and "sm_80" are emulators of the box, afterwards. By default SIDES="alone trun". SAMPLE=N takes
# one test in N, sm_90:200 starts no more of them after 200 seconds, JOBS (4) is how many processes a side gets, KEEP a
# folder for its verdicts and output. STEPS: only the steps whose names match that pattern. ROUNDS (3): of the measurement.
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

# pytest's tests on one side: its verdicts in $home/SIDE.jsonl, its output in $home/SIDE.log.
side() {
  local name=${1%:*} limit=86400
  [[ $1 != *:* ]] || limit=${1#*:}
  shift
  (cd "$tests" && RECORD=$home/$name.jsonl UNTIL=$((EPOCHSECONDS + limit)) TRITON_CACHE_DIR=$home/tests-$name \
    timeout -k 5 $((limit + 30)) python3 "$@" -m pytest -q -p no:cacheprovider -n "${JOBS:-4}" \
    -p case_by_case --tb=short .) >"$home/$name.log" 2>&1
  echo "$name: $(tail -n 1 "$home/$name.log") ($SECONDS s)"
  [ -z "${KEEP:-}" ] || { cp "$home/$name.jsonl" "$KEEP/"; gzip -c "$home/$name.log" >"$KEEP/$name.log.gz"; }
}
# Emulators have the box to themselves, one after the other, two host threads to a process that tests.
emulated() {
  trun-client daemon stop >/dev/null 2>&1
  trun-client daemon start -- --emulator "${1%:*}" --emulator-threads 2 >/dev/null &&
    side "$1" -m trun.triton --placement emulator --arch "${1%:*}" --cpu-as-cuda
  trun-client daemon stop >/dev/null 2>&1
}
compared() {
  local name reference failures=0 sides=${SIDES:-alone trun}
  mkdir -p "$home/plugins" && cp tests/gpu/case_by_case.py "$home/plugins/" && export PYTHONPATH=$home/plugins:$PYTHONPATH
  for name in $sides; do
    case $name in
      alone*) side "$name" & ;;
      trun*) side "$name" -m trun.triton & ;;
    esac
  done
  wait
  for name in $sides; do [[ $name != sm_* ]] || emulated "$name"; done
  reference=${sides%% *}
  for name in ${sides#* }; do
    echo
    python3 tests/gpu/case_by_case.py $([[ $name != sm_* ]] || echo --fewer-is-failing) \
      "$home/${reference%:*}.jsonl" "$home/${name%:*}.jsonl" || failures=1
  done
  return $failures
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
