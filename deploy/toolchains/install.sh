#!/usr/bin/env bash
# Installs one Triton version where trund finds it: FOLDER/VERSION, a virtual environment with Triton alone in it.
#
#   deploy/toolchains/install.sh VERSION [FOLDER]      FOLDER is build/toolchains unless given; PYTHON=/usr/bin/python3
#
# Idempotent. The environment is built beside its place and renamed into it: a half-made one is never seen. The same as
# `trun-client toolchains install VERSION`, for where no daemon runs yet.
set -euo pipefail

version=${1:?usage: install.sh VERSION [FOLDER]}
folder=${2:-$(dirname "$0")/../../build/toolchains}
python=${PYTHON:-/usr/bin/python3}
fail() { printf 'install.sh: %s\n' "$*" >&2; exit 1; }

[[ $version =~ ^[0-9]+(\.[0-9]+)+[a-z0-9.]*$ ]] || fail "'$version' is no version, as 3.9.0 is"
mkdir -p "$folder"
place=$folder/$version
if compgen -G "$place/lib/python3*/site-packages/triton/_C/libtriton*.so" >/dev/null && [ -x "$place/bin/python" ]; then
  echo "triton $version is there"
  exit 0
fi

for left in "$folder"/.installing-*-*; do  # half made by a process that is no more
  if [ -d "$left" ] && [ ! -e "/proc/${left##*-}" ]; then rm -rf "$left"; fi
done
building=$folder/.installing-$version-$$
trap 'rm -rf "$building"' EXIT
echo "making a virtual environment"
"$python" -m venv "$building" >"$folder/.log-$$" 2>&1 ||
  { cat "$folder/.log-$$" >&2; rm -f "$folder/.log-$$"; fail "$python cannot make virtual environments: install python3-venv"; }
rm -f "$folder/.log-$$"
echo "installing triton $version"
"$building/bin/python" -m pip install --no-deps --no-input --disable-pip-version-check -q \
  "triton==$version" setuptools filelock || fail "triton $version could not be installed: see above"
"$building/bin/python" -B -c 'import sys, triton; sys.exit(triton.__version__ != sys.argv[1])' "$version" ||
  fail "triton $version was installed but does not start"
# Another process may have been faster; a folder without a Triton in it is the remains of something else.
[ -e "$place" ] && mv "$place" "$building/before"
mv -T "$building" "$place" || fail "cannot put it into $place"
rm -rf "$place/before"
echo "triton $version is in $place"
