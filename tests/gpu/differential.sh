#!/usr/bin/env bash
# Random PTX programs on a GPU and on the emulator of the same box, compared bit for bit (tests/ptx/differential.py).
#
#   differential.sh pack BUILD FOLDER         where the emulator was built, e.g. build/dev: what the box needs
#   differential.sh run FOLDER SECONDS SEED OUT
#                                             on a box with a GPU, its driver and a python3: OUT gets the transcript, the
#                                             programs that differ, and fuzz_answers.xz, what the GPU answered to the
#                                             programs that CI replays
#
# Every worker, one for each core, has a process a side. Ends with 1 where the sides differ, with 77 without a GPU.
set -uo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
usage="usage: differential.sh pack BUILD FOLDER | run FOLDER SECONDS SEED OUT"

pack() {
  local build=$1 folder=$2
  rm -rf "$folder" && mkdir -p "$folder/lib" "$folder/ptx"
  strip -o "$folder/ptx_runner" "$build/tests/ptx_runner" || return 1
  . "$root/tests/gpu/carry_libraries.sh"
  carry_libraries "$build/tests/ptx_runner" "$folder/lib"
  (cd "$root/tests/ptx" && cp answers.py differential.py fuzz_*.py gpu_runner.py runner_process.py record.py program_tree.py \
    instruction_templates.py forms.py memory_forms.py "$folder/ptx/")
  cp "$root/tests/gpu/differential.sh" "$folder/"
  du -sh "$folder"
}

run() {
  local folder=$1 seconds=$2 seed=$3 out=$4 first=${RECORD:-600} failed=0
  local emulator="env LD_LIBRARY_PATH=$folder/lib $folder/ptx_runner"
  export PYTHONDONTWRITEBYTECODE=1
  echo "kernel $(uname -r), $(nproc) processors"
  nvidia-smi --query-gpu=name,driver_version --format=csv,noheader || { echo "skipped: no GPU"; return 77; }
  echo "== recorded for CI"
  python3 "$folder/ptx/differential.py" --seed 1 --count "$first" --record "$out/fuzz_answers.xz" || failed=1
  echo "== the same, compared"
  python3 "$folder/ptx/differential.py" --emulator "$emulator" --seed 1 --count "$first" --keep "$out/programs" || failed=1
  echo "== others, compared for $seconds s"
  python3 "$folder/ptx/differential.py" --emulator "$emulator" --seed "$seed" --seconds "$seconds" --keep "$out/programs" || failed=1
  [ ! -d "$out/programs" ] || tar cJf "$out/programs.tar.xz" -C "$out" programs
  rm -rf "$out/programs"
  return $failed
}

case "${1:?$usage}" in
  pack) pack "$(realpath "${2:?$usage}")" "$(realpath -m "${3:?$usage}")" ;;
  run)
    mkdir -p "${5:?$usage}"
    run "$(realpath "$2")" "$3" "$4" "$(realpath "$5")" 2>&1 | tee "$5/differential.txt"
    exit "${PIPESTATUS[0]}"
    ;;
  *) echo "$usage" >&2; exit 2 ;;
esac
