#!/usr/bin/env bash
# Every version's kernels on one GPU, where their compilers are not: what was compiled elsewhere is carried there.
#
#   versions.sh pack FOLDER                     where the compilers are: machine code of every version
#   versions.sh run BUNDLE.tar.xz FOLDER OUT    where the GPU is: a python3 with NumPy, ml_dtypes, grpcio and a Triton,
#                                               which is adopted; BUNDLE.tar.xz is what deploy/bundle.sh makes
#
# `pack` needs a daemon (TRUN_ADDRESS), trun-client (TRUN_CLIENT, else in PATH) and a Python that has the trun package.
# OUT gets the tables and a transcript.
set -uo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
usage="usage: versions.sh pack FOLDER | run BUNDLE.tar.xz FOLDER OUT"

pack() {
  mkdir -p "$1"
  "${PYTHON:-python3}" "$root/tests/gpu/version_matrix.py" pack "$1/kernels" &&
    "${PYTHON:-python3}" "$root/docs/case_studies/case_studies.py" pack "$1/studies"
}

failed=0
step() {
  echo
  echo "== $1"; shift
  "$@" 2>&1 || { echo "FAILED: exit $?"; failed=$((failed + 1)); }
}
example() { python3 "$root/examples/$1"; }

run() {
  home=$(mktemp -d) && export HOME=$home XDG_RUNTIME_DIR=$home PYTHONDONTWRITEBYTECODE=1
  trap 'trun-client daemon stop >/dev/null 2>&1; rm -rf "$home"' EXIT
  echo "kernel $(uname -r)"
  nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader || echo "no GPU"
  tar -xf "$1" -C "$home" || return 1
  bundle=$(echo "$home"/trun-*/) && export PATH=${bundle}bin:$PATH PYTHONPATH=$home/site
  python3 -m pip install -q --disable-pip-version-check --no-index --no-deps --no-compile --target "$home/site" "${bundle}"python/trun-*.whl || return 1
  trun-client daemon start -- --emulator sm_90 >/dev/null || return 1
  trun-client toolchains adopt "$(python3 -c 'import sys; print(sys.executable)')" >/dev/null
  trun-client toolchains list
  export TRUN_DEVICE=${TRUN_DEVICE:-cuda:0} TRUN_CONFORMANCE_DEVICE=${TRUN_DEVICE:-cuda:0}
  step "a winner that the second process finds" python3 "$root/tests/gpu/autotune.py"
  for name in levels/cubin levels/python_source levels/ttir levels/ttgir levels/llir levels/ptx levels/hopper levels/gluon_layouts \
              levels/versions python/any_level; do
    step "examples/$name.py" example "$name.py"
  done
  step "the case studies' machine code" python3 "$root/docs/case_studies/case_studies.py" run "$2/studies"
  cp "$2/studies/times.md" "$3/times.md"
  step "every version's kernels" python3 "$root/tests/gpu/version_matrix.py" run "$2/kernels"
  cp "$2/kernels/results.md" "$3/results.md"
  echo
  [ $failed = 0 ] && echo "all steps passed" || echo "$failed steps FAILED"
  return $failed
}

case "${1:?$usage}" in
  pack) pack "$(realpath -m "${2:?$usage}")" ;;
  run)
    mkdir -p "${4:?$usage}"
    run "$(readlink -f "$2")" "$(readlink -f "$3")" "$(readlink -f "$4")" 2>&1 | tee "$4/transcript.txt"
    ;;
  *) echo "$usage" >&2; exit 2 ;;
esac
