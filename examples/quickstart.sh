#!/usr/bin/env bash
# The main job from a fresh machine: sets everything up, starts a private daemon, sends it a matmul in Triton's IR with
# two random fp16 matrices, checks the result against NumPy, and runs it again from the cache.
#
#   examples/quickstart.sh             exit code 0 when the numbers are right, 1 when they are not
#   examples/quickstart.sh --corrupt   changes one element of the reference, to see the check fail
#   examples/quickstart.sh --no-setup  for when deploy/setup.sh has run already
#
# TRUN_ADDRESS: use that daemon instead. TRUN_BUILD_DIR: where the binaries are (build/release).
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD

setup=yes corrupt=no
for option in "$@"; do
  case "$option" in
    --corrupt) corrupt=yes ;;
    --no-setup) setup=no ;;
    -h | --help) sed -n '2,9p' "$0" | sed 's/^# \{0,1\}//'; exit 0 ;;
    *) echo "quickstart: unknown option '$option' (see --help)" >&2; exit 2 ;;
  esac
done

if [ -e deploy/setup.sh ]; then
  [ "$setup" = no ] || deploy/setup.sh --for quickstart
  client=${TRUN_BUILD_DIR:-$root/build/release}/bin/trun-client
  python=$root/build/tools/venv/bin/python
  work=$root/build/quickstart
  mkdir -p "$work"
else
  # Unpacked from the bundle: nothing is built, and whatever Python has NumPy does.
  client=$root/bin/trun-client
  python=$(command -v "${PYTHON:-python3}") || { echo "quickstart: the reference needs a python3 with NumPy" >&2; exit 6; }
  work=$(mktemp -d "${TMPDIR:-/tmp}/trun-quickstart-XXXXXX")
  trap 'rm -rf "$work"' EXIT
fi
for file in "$client" "$python"; do
  [ -x "$file" ] || { echo "quickstart: $file is missing: run deploy/setup.sh" >&2; exit 6; }
done

# In a checkout a daemon of our own, with the Triton of this checkout; from the bundle the user's, which knows theirs.
if [ -z "${TRUN_ADDRESS:-}" ] && [ -e deploy/setup.sh ]; then
  # Its socket's path must be short, wherever this repository lies.
  runtime=$(mktemp -d "${TMPDIR:-/tmp}/trun-quickstart-XXXXXX")
  export TRUN_ADDRESS=unix:$runtime/trund.sock
  stop_daemon() {
    "$client" daemon stop >/dev/null || true
    rm -rf "$runtime"
  }
  trap stop_daemon EXIT
  "$client" daemon start --until-idle -- --cache-dir "$work/cache" --toolchains-dir "$root/build/toolchains" >/dev/null
fi

# The reference: fp32 product of the same fp16 matrices, by NumPy; only the seeds are shared.
M=512 N=512 K=256
"$python" examples/reference.py matmul $M $N $K --seeds 1 2 -o "$work/reference.npy"
[ "$corrupt" = no ] || "$python" examples/reference.py corrupt "$work/reference.npy"

matmul() {
  "$client" run examples/kernels/matmul.ttir \
    --arg "a_ptr=f16[M,K]:randn(seed=1)" --arg "b_ptr=f16[K,N]:randn(seed=2)" --out "c_ptr=f32[M,N]" \
    --arg M=$M --arg N=$N --arg K=$K \
    --arg stride_am=K --arg stride_ak=1 --arg stride_bk=N --arg stride_bn=1 --arg stride_cm=N --arg stride_cn=1 \
    --grid 'cdiv(M,64),cdiv(N,64)' --expect "c_ptr=$work/reference.npy" --rtol 1e-3 --atol 1e-3
}

echo "matmul.ttir, fp16 ${M}x${K} times fp16 ${K}x${N}, accumulated in fp32:"
code=0
matmul || code=$?
[ $code -ne 1 ] || echo "quickstart: the numbers are wrong" >&2
[ $code -eq 0 ] || exit $code
echo
echo "again, from the cache:"
matmul | grep -E '^(cache|compile|launch|check|total)'
