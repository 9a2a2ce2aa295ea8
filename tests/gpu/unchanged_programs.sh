#!/usr/bin/env bash
# Unchanged torch programs on a GPU: with Triton alone, through the daemon, and what is refused, as a transcript.
#
#   unchanged_programs.sh            in an unpacked bundle, or a checkout with build/release or build/dev
#
# Needs a python3 with torch, Triton, NumPy and grpcio, and a GPU. Writes to a temporary folder only.
set -uo pipefail
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
  echo
  echo "== $1"; shift
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
missing = {"add_kernel", "gather_kernel", "scale_kernel", "matmul_kernel"} - kernels
sys.exit(f"not through the daemon: {missing}" if missing else 0)'
}
refused() {
  ! python3 -m trun.triton --placement daemon tests/gpu/torch_program.py 2>"$home/refused" && grep -q "cannot be given to the daemon" "$home/refused" &&
    tail -n 2 "$home/refused"
}

step "the box" python3 -c 'import torch, triton
print("torch", torch.__version__, "triton", triton.__version__, torch.cuda.get_device_name(0))'
step "with Triton alone" env TRITON_CACHE_DIR="$home/alone" python3 tests/gpu/torch_program.py
step "in-process, compiled by the daemon" python3 -m trun.triton --placement in-process tests/gpu/torch_program.py
step "again, from the caches" python3 -m trun.triton tests/gpu/torch_program.py
step "what the daemon has" compiled_by_the_daemon
step "on the emulator of the same box" python3 -m trun.triton --placement emulator --arch sm_90 --cpu-as-cuda tests/gpu/torch_program.py
step "placement daemon is refused with the reason" refused
echo
echo "$failed steps failed"
[ "$failed" = 0 ]
