#!/usr/bin/env bash
# Makes the bundle: one tarball that runs on any x86-64 Linux with nothing installed, an empty chroot included.
#
#   deploy/bundle.sh                          from build/release, into build/bundle
#   deploy/bundle.sh --from build/dev -o DIR  from another build folder, into another place
#   deploy/bundle.sh --fast                   compressed less: a quarter of the time, a sixth larger (for tests)
#
# In it: the programs, stripped; every library they load, the C library and its loader too; the examples, the Python
# client as a wheel, tests/gpu, and the licences. No Triton: the box's own is adopted, or one is installed, or compiled
# kernels are brought along (README.md inside). Needs what `deploy/setup.sh --for tests` installs.
# The same sources and packages give the same bytes: times are SOURCE_DATE_EPOCH, else those of the last commit.
set -euo pipefail
cd "$(dirname "$0")/.."

from=build/release out=build/bundle xz=-6
while [ $# -gt 0 ]; do
  case "$1" in
    --from) from=${2:?--from takes a build folder}; shift 2 ;;
    --fast) xz=-1; shift ;;
    -o | --out) out=${2:?--out takes a folder}; shift 2 ;;
    -h | --help) sed -n '2,11p' "$0" | sed 's/^# \{0,1\}//'; exit 0 ;;
    *) echo "bundle: unknown option '$1' (see --help)" >&2; exit 2 ;;
  esac
done
fail() { printf 'bundle: %s\n' "$*" >&2; exit 1; }
[ "$(uname -m)" = x86_64 ] || fail "the bundle is made for x86-64, on x86-64"
[[ $from = /* ]] || from=$PWD/$from
python=build/tools/venv/bin/python
[ -x "$python" ] || fail "$python is missing: run deploy/setup.sh --for tests --no-build"
[ -e "$from/build.ninja" ] || cmake -S . --preset "$(basename "$from")" >/dev/null || fail "cannot configure $from"
ninja -C "$from" bundle-programs >/dev/null || fail "the programs could not be built: ninja -C $from bundle-programs says why"

SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
export SOURCE_DATE_EPOCH
version=$(sed -n 's/^project(trun VERSION \([0-9.]*\).*/\1/p' CMakeLists.txt)
name=trun-$version-linux-x86_64
mkdir -p "$out"
work=$(mktemp -d "$out/.making-XXXXXX")
trap 'rm -rf "$work"' EXIT
root=$work/$name
mkdir -p "$root"/{bin,lib,python,share/licenses,share/systemd}
umask 022

# 1. Programs and all that they load, by the same loader that will load them. libpthread and the like are empty since
#    glibc 2.34, but a GPU's driver library asks for them, and ours must answer.
install -m 755 "$from"/bundle-programs/{trund,trun-executor,trun-client} "$root/bin/"
loader=/lib64/ld-linux-x86-64.so.2
for program in "$root"/bin/*; do "$loader" --list "$program"; done | awk '$2 == "=>" && $3 ~ /^\// {print $3}' >"$work/libraries"
for library in libpthread.so.0 libdl.so.2 librt.so.1; do echo "$(dirname "$(readlink -f "$loader")")/$library"; done >>"$work/libraries"
echo "$loader" >>"$work/libraries"
sort -u "$work/libraries" -o "$work/libraries"
while read -r library; do
  install -m 755 "$library" "$root/lib/$(basename "$library")"
  ! readelf -d "$library" | grep -q RUNPATH || fail "$library has a DT_RUNPATH, which hides the bundle's folder from what it loads"
  # A package knows a file by its real path, with /usr in front or without.
  real=$(readlink -f "$library")
  printf '%s\n' "${real#/usr}" "/usr${real#/usr}" >>"$work/paths"
done <"$work/libraries"
xargs dpkg-query -S <"$work/paths" >"$work/owners" 2>/dev/null || true
[ "$(wc -l <"$work/owners")" = "$(wc -l <"$work/libraries")" ] ||
  fail "not every library belongs to a package: the licence of one is not known"
declare -A packages=()
while IFS=: read -r package _; do packages[$package]=1; done <"$work/owners"
for header_only in libcli11-dev nlohmann-json3-dev; do packages[$header_only]=1; done
for package in $(printf '%s\n' "${!packages[@]}" | sort); do
  install -m 644 "/usr/share/doc/$package/copyright" "$root/share/licenses/$package.txt"
  # shellcheck disable=SC2016
  dpkg-query -W -f '${Package} ${Version} (source: ${source:Package} ${source:Version})\n' "$package"
done >"$root/share/packages.txt"

# 2. The Python client: built from a copy, so that nothing is left in the sources. Debian's protoc makes messages that
#    every protobuf from 4.21 on reads; the newest one's would ask for the newest runtime.
mkdir -p "$work/source/client"
cp -r proto "$work/source/proto"
(cd client && git ls-files python | tar cT -) | tar xC "$work/source/client"
TRUN_PROTOC=/usr/bin/protoc "$python" -m pip wheel -q --no-deps --no-build-isolation --disable-pip-version-check \
  -w "$root/python" "$work/source/client/python" >"$work/wheel.log" 2>&1 ||
  { tail -n 20 "$work/wheel.log" >&2; fail "the Python client could not be built"; }
"$python" -m zipfile -l "$root"/python/trun-*.whl >"$work/wheel.contents"
grep -q _native.abi3.so "$work/wheel.contents" ||
  fail "the wheel lacks the native launcher: Debian's python3-dev has Python.h"

# 3. Examples, tests for a GPU, papers.
git ls-files examples tests/gpu tests/integration/kernels.py tests/integration/cases.py bench/gpu docs/cli.md docs/operations.md |
  grep -vE '/CMakeLists.txt$|^tests/gpu/.*(\.cc|pack.sh)$' | tar cT - | tar xC "$root"
install -m 644 LICENSE "$root/LICENSE"
install -m 644 deploy/systemd/trund.service "$root/share/systemd/"
sed "s/@VERSION@/$version/" deploy/bundle/README.md >"$root/README.md"

# 4. No path of this machine may have stayed, and nothing may be missing.
here=$(pwd -P)
# (Licences are others' texts: they may hold an address with the same words.)
if grep -rlF --exclude-dir=licenses "$here/" "$root" >"$work/leaks"; then fail "these files name $here: $(tr '\n' ' ' <"$work/leaks")"; fi
tar c --sort=name --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner --mode=go=rX,u+rw,a-s \
  -C "$work" "$name" | xz $xz -T2 >"$work/$name.tar.xz"
mv "$work/$name.tar.xz" "$out/$name.tar.xz"
size=$(stat -c %s "$out/$name.tar.xz")
printf '%s: %s bytes (%s MiB), %s libraries\n' "$out/$name.tar.xz" "$size" "$(((size + 1048575) / 1048576))" "$(wc -l <"$work/libraries")"
[ "$size" -le $((30 << 20)) ] || fail "it is larger than 30 MiB"
