#!/usr/bin/env bash
# What a new box makes of the bundle, from the tarball to the conformance tests, as a transcript on standard output.
#
#   on_a_box.sh TARBALL [KERNELS.trun]      KERNELS.trun: a `cache export` of kernels that another Triton compiled
#
# Needs a python3 with Triton, NumPy, grpcio and pytest. DEVICES="emulator:0 cuda:0" are those the examples run on,
# CONFORMANCE="emulator:1 cuda:0" those that are compared with an emulator, BENCH=cuda:0 takes a figure too. Writes to a temporary folder only.
set -uo pipefail
tarball=$(readlink -f "${1:?usage: on_a_box.sh TARBALL [KERNELS.trun]}")
kernels=${2:+$(readlink -f "$2")}
devices=${DEVICES:-emulator:0} conformance=${CONFORMANCE:-}

home=$(mktemp -d "${TMPDIR:-/tmp}/trun-box-XXXXXX")
export HOME=$home XDG_RUNTIME_DIR=$home PYTHONDONTWRITEBYTECODE=1
unset XDG_CACHE_HOME XDG_DATA_HOME TRUN_ADDRESS
failed=0
stop() { trun-client daemon stop >/dev/null 2>&1; rm -rf "$home"; }
trap stop EXIT
step() {
  echo
  echo "== $1"; shift
  "$@" 2>&1 || { echo "FAILED: exit $?"; failed=$((failed + 1)); }
}

system() {
  sed -n 's/^PRETTY_NAME=//p' /etc/os-release | tr -d '"'
  echo "kernel $(uname -r), $(ldd --version | sed -n '1s/.* //p') is its C library's version"
  echo "libraries of the bundle that it has itself: $(ldconfig -p | grep -cE 'libgrpc|libprotobuf|librocksdb|libabsl|libspdlog')"
  python3 --version
  python3 -c 'import triton; print("triton", triton.__version__)'
  nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader || echo "no GPU"
}
unpack() {
  tar -xf "$tarball" -C "$home" && bundle=$(echo "$home"/trun-*/) && cd "$bundle" && du -sh --apparent-size . && export PATH=$bundle/bin:$PATH
}
adopt() {
  trun-client daemon start -- --emulator sm_80 --emulator sm_90 >/dev/null &&
    trun-client toolchains adopt "$(python3 -c 'import sys; print(sys.executable)')" >/dev/null &&
    trun-client toolchains list --json | python3 -c 'import json, sys
for t in json.load(sys.stdin)["toolchains"]: print("triton", t["version"], "adopted" if t["adopted"] else "")'
  trun-client devices
}
doctor() {
  trun-client doctor | sed "s#$home#HOME#g"
  [ "${PIPESTATUS[0]}" = 0 ]
}
client_package() {
  python3 -m pip install -q --disable-pip-version-check --no-index --no-deps --no-compile --target "$home/site" python/trun-*.whl &&
    python3 -m pip list 2>/dev/null | grep -E '^(grpcio|protobuf|numpy|ml_dtypes|ml-dtypes) '
  export PYTHONPATH=$home/site
}
compiled_file() {
  trun-client run examples/kernels/vector_add.sm80.ptx --device "$1" --grid 4 --arg 0='f32[4096]:ones' --arg 1='f32[4096]:ones' \
    --out 2='f32[4096]' --arg 3=4096
}
imported() {
  trun-client cache import "$kernels"
  trun-client cache ls | sed -n 1,12p
  local key
  key=$(trun-client cache ls --json | python3 -c 'import json, sys
print(next(e["key"] for e in json.load(sys.stdin)["entries"]
           if (e["toolchain"], e["kernel"], e["source_level"]) == ("3.4.0", "vector_add", "ttir") and ":80:" in e["target"]))') || return 1
  trun-client cache show "$key" -o "$home/imported" >/dev/null
  echo "what Triton 3.4.0 compiled elsewhere:"
  trun-client run "$home/imported/vector_add.ptx" --device emulator:0 --grid 4 --arg 0='f32[4096]:ones' --arg 1='f32[4096]:ones' \
    --out 2='f32[4096]' --arg 3=4096
}
python_examples() {
  local file
  for file in examples/python/*.py; do
    printf '%s: ' "$(basename "$file")"
    TRUN_DEVICE=$1 python3 "$file" | tail -n 1; [ "${PIPESTATUS[0]}" = 0 ] || return 1
  done
}
conform() {
  TRUN_CONFORMANCE_DEVICE=$1 python3 -m pytest -q -p no:cacheprovider --tb=short tests/gpu 2>&1 | sed "s#$home#HOME#g"
  [ "${PIPESTATUS[0]}" = 0 ]
}

step "the box" system
step "unpacked" unpack
step "its Triton, adopted" adopt
step "the Python client" client_package
step "doctor" doctor
for device in $devices; do
  step "a compiled kernel on $device" compiled_file "$device"
  step "the quickstart on $device" env TRUN_DEVICE="$device" examples/quickstart.sh
  step "the Python examples on $device" python_examples "$device"
done
[ -z "$kernels" ] || step "kernels of another Triton" imported
for device in $conformance; do step "conformance of $device" conform "$device"; done
[ -z "${BENCH:-}" ] || step "a cached run on $BENCH against a Python with torch and Triton" python3 bench/gpu/run_vs_python.py --device "$BENCH"
echo
[ $failed = 0 ] && echo "all steps passed" || echo "$failed steps FAILED"
exit $failed
