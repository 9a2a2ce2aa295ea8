#!/usr/bin/env bash
# Installs what trun needs and builds it. Idempotent: what is there already is left alone.
#
#   deploy/setup.sh                    the daemon, the clients, one Triton (3.9.0)
#   deploy/setup.sh --for tests        what the tests need too, and every Triton from 3.0 on (7 GB); builds nothing
#   deploy/setup.sh --no-build         install only
#
# Leaves binaries in build/release/bin, Python parts in build/tools, Triton versions in build/toolchains.
# Debian packages are installed by apt (root, or sudo without a password); everything else stays under build/.
set -euo pipefail
cd "$(dirname "$0")/.."

for_whom=quickstart
build=yes
while [ $# -gt 0 ]; do
  case "$1" in
    --for) for_whom=${2:?--for takes quickstart or tests}; shift 2 ;;
    --no-build) build=no; shift ;;
    -h|--help) sed -n '2,9p' "$0" | sed 's/^# \{0,1\}//'; exit 0 ;;
    *) echo "setup: unknown option '$1' (see --help)" >&2; exit 2 ;;
  esac
done
case "$for_whom" in quickstart|tests) ;; *) echo "setup: --for takes quickstart or tests, not '$for_whom'" >&2; exit 2 ;; esac

started=$SECONDS
step() { printf '[%3ds] %s\n' $((SECONDS - started)) "$*"; }
missing() { printf 'setup: %s\n' "$*" >&2; exit 1; }
mkdir -p build/logs

# The line of a log that says most about why something failed.
why() {
  local line
  line=$(grep -E '^(E: |ERROR|CMake Error|install\.sh: )|error: ' "$1" | head -n 1)
  [ -n "$line" ] || line=$(grep -v '^[[:space:]]*$' "$1" | tail -n 1)
  printf '%s' "$line"
}

# Runs a step with its output in a log. When it fails, one line says what, why and where the log is.
logged() {
  local name=$1 what=$2; shift 2
  "$@" >"build/logs/$name.log" 2>&1 ||
    missing "$what: $(why "build/logs/$name.log") (the whole log is build/logs/$name.log)"
}

# 1. Debian packages.
kinds=build
[ "$for_whom" = tests ] && kinds='build|test'
mapfile -t wanted < <(awk -v kinds="^($kinds)\$" '$1 ~ kinds {print $2}' deploy/packages.txt)
absent=()
for package in "${wanted[@]}"; do
  dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || absent+=("$package")
done
if [ ${#absent[@]} -gt 0 ]; then
  as_root=()
  if [ "$(id -u)" != 0 ]; then
    sudo -n true 2>/dev/null || missing "these Debian packages are missing and only root can install them: ${absent[*]}"
    as_root=(sudo -n)
  fi
  step "installing ${#absent[@]} Debian packages"
  logged apt-update "the lists of Debian packages cannot be fetched" "${as_root[@]}" apt-get update -q
  logged apt-install "Debian packages cannot be installed" "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
    apt-get install -y -q --no-install-recommends "${absent[@]}"
fi

# 2. Python parts, in an environment of our own.
python_parts=(numpy ml_dtypes googleapis-common-protos nvidia-cuda-runtime==13.0.96)  # the last: cuda.h
[ "$for_whom" = tests ] && python_parts+=(grpcio grpcio-tools pytest ipython ruff mypy buf-bin build)
stamp="build/tools/.installed-$for_whom-$(printf '%s\n' "${python_parts[@]}" | cksum | cut -d' ' -f1)"
if [ ! -e "$stamp" ]; then
  step "installing Python parts: ${python_parts[*]}"
  mkdir -p build/tools
  [ -x build/tools/venv/bin/pip ] || logged venv "no Python environment can be made" /usr/bin/python3 -m venv build/tools/venv
  logged pip "Python parts cannot be installed" build/tools/venv/bin/pip install -q --disable-pip-version-check "${python_parts[@]}"
  : >"$stamp"
fi

# 3. Triton versions, while the compiler works.
toolchains=(3.9.0)
[ "$for_whom" = tests ] && toolchains+=(3.4.0 3.0.0 3.1.0 3.2.0 3.3.1 3.5.1 3.6.0 3.7.1 3.8.0)
install_toolchains() {
  local version
  for version in "${toolchains[@]}"; do
    deploy/toolchains/install.sh "$version" build/toolchains || return 1
  done
}
step "installing Triton ${toolchains[*]} in the background"
install_toolchains >build/logs/toolchains.log 2>&1 &
toolchains_pid=$!

# 4. The binaries.
if [ "$build" = yes ] && [ "$for_whom" = quickstart ]; then
  step "configuring"
  logged configure "CMake cannot configure the build" cmake --preset release
  step "building (the first time takes minutes; later only what changed)"
  if [ -t 1 ]; then
    NINJA_STATUS='      %p ' ninja -C build/release || missing "the build failed: see above"
  else
    logged build "the build failed" ninja -C build/release
  fi
fi

wait "$toolchains_pid" ||
  missing "Triton cannot be installed: $(why build/logs/toolchains.log) (the whole log is build/logs/toolchains.log)"
step "ready"
