#!/usr/bin/env bash
# Runs the tests labelled gpu from a folder that tests/gpu/pack.sh made, each in a process of its own: a test that
# loses its context takes its process with it. Says so and ends with 77 where there is no GPU.
#
#   tests/gpu/run.sh FOLDER        or a build folder, such as build/dev, which it packs first
set -uo pipefail
folder=$(cd "${1:?usage: tests/gpu/run.sh FOLDER}" && pwd) || exit 2
if [ ! -e /dev/nvidiactl ]; then
  echo "skipped: this machine has no NVIDIA GPU (/dev/nvidiactl is not there)"
  exit 77
fi
if [ -e "$folder/CMakeCache.txt" ]; then
  "$(dirname "$0")/pack.sh" "$folder" "$folder/gpu" || exit 1
  folder=$folder/gpu
fi
export LD_LIBRARY_PATH="$folder/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
echo "kernel $(uname -r)"
nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader
export TRUN_TEST_LIBCUDA=${TRUN_TEST_LIBCUDA:-libcuda.so.1} TRUN_TESTDATA="$folder/testdata"
passed=0 skipped=0 failed=()
for binary in "$folder"/bin/*_test; do
  suite=
  while IFS= read -r line; do
    line=${line%%  #*}
    case "$line" in
      "  "*) test="$suite${line#  }" ;;
      *) suite=$line; continue ;;
    esac
    output=$(timeout -s KILL 60 "$binary" --gtest_filter="$test" 2>&1)
    code=$?
    if grep -q '\[  SKIPPED \]' <<<"$output"; then
      skipped=$((skipped + 1)); echo "skipped $test"
    elif [ $code -eq 0 ]; then
      passed=$((passed + 1)); echo "passed  $test"
    else
      failed+=("$test"); echo "FAILED  $test (exit $code)"; tail -n 30 <<<"$output"
    fi
  done < <("$binary" --gtest_list_tests 2>/dev/null | grep -v '^Running main')
done
echo "$passed passed, $skipped skipped, ${#failed[@]} failed: ${failed[*]:-none}"
[ ${#failed[@]} -eq 0 ]
