#!/usr/bin/env bash
# Sets everything up and runs every test. Needs nothing but Debian 12 with git, and root for apt.
#
#   tests/run.sh                       all stages, in order
#   tests/run.sh unit python           only these (setup runs first, always)
#
# Stages: style unit python quickstart asan fuzz tsan tidy; and, only when named, analyze (clang's static analyzer, three
# times as slow as tidy). Logs are kept in build/logs.
# FUZZ_SECONDS (60) is each fuzzer's time.
set -uo pipefail
cd "$(dirname "$0")/.."

all_stages=(style unit python quickstart asan fuzz tsan tidy)
other_stages=(analyze)
case "${1:-}" in -h|--help) sed -n '2,10p' "$0" | sed 's/^# \{0,1\}//'; exit 0 ;; esac
stages=("$@")
[ ${#stages[@]} -gt 0 ] || stages=("${all_stages[@]}")
for stage in "${stages[@]}"; do
  case " ${all_stages[*]} ${other_stages[*]} " in *" $stage "*) ;; *) echo "run.sh: no stage '$stage'; they are: ${all_stages[*]} ${other_stages[*]}" >&2; exit 2 ;; esac
done

started=$SECONDS
jobs=$(nproc)
summary=()
failed=0

# Builds a preset; the log's end is shown when it fails.
build_preset() {
  local preset=$1; shift
  end_build_ahead
  cmake --preset "$preset" >"build/logs/configure-$preset.log" 2>&1 || { tail -n 20 "build/logs/configure-$preset.log"; return 1; }
  ninja -C "build/$preset" "$@" >"build/logs/build-$preset.log" 2>&1 || { grep -E 'error|FAILED' -A6 "build/logs/build-$preset.log" | head -60; return 1; }
  echo "built $preset in $((SECONDS - stage_started)) s"
}

# The Python tests leave a core free half of the time: it builds what later stages need, at the lowest priority, until
# the first of them begins.
ahead=
build_ahead() {
  (for preset in "$@"; do
    cmake --preset "$preset" && nice -n 19 ninja -C "build/$preset" -j 1 || exit 1
  done) >build/logs/build-ahead.log 2>&1 &
  ahead=$!
}
end_build_ahead() {
  [ -n "$ahead" ] || return 0
  pkill -INT -P "$ahead"  # ninja ends cleanly and keeps what is finished; a failure shows again where it is needed
  wait "$ahead"
  ahead=
}

stage_style() {
  git ls-files '*.cc' '*.h' | xargs -r clang-format-19 --dry-run -Werror || return 1
  build/tools/venv/bin/ruff check -q client tests examples bench server deploy docs || return 1
  build/tools/venv/bin/buf lint proto || return 1
  (cd client/python && ../../build/tools/venv/bin/python generate_stubs.py && ../../build/tools/venv/bin/mypy) || return 1
}

stage_unit() {
  build_preset dev || return 1
  ctest --test-dir build/dev --output-on-failure -j "$jobs" --timeout 600
}

stage_python() {
  case " ${stages[*]} " in *" asan "*" tsan "*) build_ahead asan tsan ;; *" asan "*) build_ahead asan ;; esac
  export TRUN_BUILD_DIR="$PWD/build/dev" TRUN_TOOLCHAINS_DIR="$PWD/build/toolchains"
  # Three processes, side by side: the client's package and the bare stubs of tests/integration are both called trun, and
  # the kill loops mostly wait for what they killed to be replaced.
  local kills=tests/integration/test_kill_loop.py passed=0
  build/tools/venv/bin/python -m pytest -q client/python/tests >build/logs/pytest-client.log 2>&1 &
  local client=$!
  build/tools/venv/bin/python -m pytest -q "$kills" >build/logs/pytest-kills.log 2>&1 &
  local killing=$!
  build/tools/venv/bin/python -m pytest -q tests --ignore="$kills" || passed=1
  wait "$client" || passed=1
  wait "$killing" || passed=1
  cat build/logs/pytest-client.log build/logs/pytest-kills.log
  return "$passed"
}

stage_quickstart() {
  examples/quickstart.sh || return 1
  if examples/quickstart.sh --corrupt >build/logs/quickstart-corrupt.log 2>&1; then
    echo "quickstart.sh --corrupt exited 0: it does not look at the numbers"; return 1
  fi
  echo "a corrupted element makes the quickstart fail, as it must: $(tail -n 1 build/logs/quickstart-corrupt.log)"
}

stage_asan() {
  build_preset asan || return 1
  ASAN_OPTIONS=detect_leaks=1:strict_string_checks=1 UBSAN_OPTIONS=print_stacktrace=1 \
    ASAN_SYMBOLIZER_PATH=/usr/bin/llvm-symbolizer-19 \
    ctest --test-dir build/asan --output-on-failure -j "$jobs" --timeout 900 -LE 'no-asan' || return 1
  # The daemon and its executors as they are, given what is bad.
  TRUN_BUILD_DIR="$PWD/build/asan" TRUN_TOOLCHAINS_DIR="$PWD/build/toolchains" \
    build/tools/venv/bin/python -m pytest -q tests/integration/test_bad_input.py
}

stage_fuzz() {
  build_preset asan fuzzers || return 1
  find build/asan/fuzz -name '*_fuzzer' -printf '%f\0' | sort -z |
    xargs -0 -P "$jobs" -I{} tests/fuzz/fuzz.sh {} "${FUZZ_SECONDS:-60}"
}

stage_tsan() {
  build_preset tsan || return 1
  TSAN_OPTIONS="halt_on_error=1:second_deadlock_stack=1:suppressions=$PWD/tests/tsan.supp" TSAN_SYMBOLIZER_PATH=/usr/bin/llvm-symbolizer-19 \
    ctest --test-dir build/tsan --output-on-failure -j "$jobs" --timeout 900 -LE 'no-tsan'
}

# clang-tidy over what links no gRPC: files that do take half a minute each, and the bugs it finds are in the rooms below.
clang_tidy() {
  [ -e build/dev/gen/trun/v1/session.pb.h ] || build_preset dev || return 1
  git ls-files 'common/*.cc' 'server/*.cc' | grep -vE '_(test|fuzzer|bench)\.cc$|^common/rpc/|^server/(service|main)/' |
    xargs -P "$jobs" -n 1 clang-tidy-19 -p build/dev --quiet "$@" 2>build/logs/tidy.log
}
stage_tidy() { clang_tidy '--checks=-clang-analyzer-*'; }
stage_analyze() { clang_tidy; }

echo "== setup"
deploy/setup.sh --for tests --no-build || exit 1
summary+=("setup          ok   $((SECONDS - started)) s")
for stage in "${stages[@]}"; do
  echo "== $stage"
  stage_started=$SECONDS
  if "stage_$stage"; then verdict=ok; else verdict=FAILED; failed=$((failed + 1)); fi
  summary+=("$(printf '%-14s %-6s %d s' "$stage" "$verdict" $((SECONDS - stage_started)))")
done
echo "== summary (${SECONDS} s)"
printf '%s\n' "${summary[@]}"
passed=$((${#stages[@]} - failed))
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
