#!/usr/bin/env bash
# Makes the files beside it: staged_add.py by Meta's fork of Triton with TLX, for sm_90.
#
#   regenerate.sh BUILD [ENVIRONMENT]      ENVIRONMENT: a virtual environment with the fork; else one is made and thrown away
#
# The fork comes from PyPI (fbtriton). Its files are used by tests that run them without it.
set -euo pipefail
build=$(readlink -f "${1:?usage: regenerate.sh BUILD [ENVIRONMENT]}")
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
export HOME=$work XDG_RUNTIME_DIR=$work PATH=$build/bin:$PATH
trap 'trun-client daemon stop >/dev/null 2>&1 || true; rm -rf "$work"' EXIT
environment=${2:-$work/tlx}
if [ ! -d "$environment" ]; then
  python3 -m venv "$environment"
  "$environment/bin/python" -m pip install --no-deps --disable-pip-version-check -q fbtriton==3.7.4 setuptools filelock
fi
trun-client daemon start -- --emulator sm_90 >/dev/null
trun-client toolchains adopt "$environment" --name tlx
# Line information names the source's folder.
mkdir -p /tmp/trun-tlx && cp "$here/staged_add.py" /tmp/trun-tlx && cd /tmp/trun-tlx
trun-client compile staged_add.py:staged_add --toolchain tlx --target sm_90 --to cubin -O num_warps=4 \
  --signature '*f32:16,*f32:16,*f32:16,i32,256' -o "$work/out"
for level in ttir ttgir llir ptx cubin; do cp "$work/out/staged_add.$level" "$here/"; done
rm -r /tmp/trun-tlx
cd "$here"
python3 - "$work/out/staged_add.json" <<'PY'
import json, os, sys
metadata = json.load(open(sys.argv[1]))
metadata["extern_libs"] = [[name, os.path.basename(path)] for name, path in metadata["extern_libs"]]
json.dump(metadata, open("staged_add.json", "w"), sort_keys=True)
PY
