#!/usr/bin/env bash
# One fuzzer on a machine with more processors than the one that builds it.
#
#   carried.sh pack NAME FOLDER               where build/asan is: the fuzzer, its libraries, what it starts from
#   carried.sh run FOLDER SECONDS OUT         there: a process for each processor, which share what they find; OUT gets the
#                                             summary and the inputs that break something
set -uo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
usage="usage: carried.sh pack NAME FOLDER | run FOLDER SECONDS OUT"

pack() {
  local fuzzer=build/asan/fuzz/$1 folder=$2
  cd "$root" || return 1
  # A second of it here makes its seeds and its dictionary.
  tests/fuzz/fuzz.sh "$1" 1 || return 1
  rm -rf "$folder" && mkdir -p "$folder/lib" "$folder/corpus"
  strip --strip-debug -o "$folder/fuzzer" "$fuzzer" || return 1
  . tests/gpu/carry_libraries.sh
  carry_libraries "$fuzzer" "$folder/lib"
  echo "$1" >"$folder/name"
  cp "build/fuzz-seeds/$1.dict" "$folder/dictionary" 2>/dev/null || : >"$folder/dictionary"
  "$fuzzer" -merge=1 "$folder/corpus" "build/fuzz-corpus/$1" "build/fuzz-seeds/$1" >/dev/null 2>&1 || return 1
  tar cJf "$folder/corpus.tar.xz" -C "$folder" corpus && rm -rf "$folder/corpus"
  cp tests/fuzz/carried.sh "$folder/"
  du -sh "$folder"
}

run() {
  local folder=$1 seconds=$2 out=$3 jobs work codes=0 name
  jobs=$(nproc) work=$(mktemp -d) name=$(cat "$folder/name")
  mkdir -p "$work/corpus" && tar xf "$folder/corpus.tar.xz" -C "$work" && mkdir -p "$work/new" "$work/findings"
  cd "$work" || return 1
  local pids=()
  for i in $(seq "$jobs"); do
    LD_LIBRARY_PATH="$folder/lib" "$folder/fuzzer" -max_total_time="$seconds" -timeout=20 -rss_limit_mb=2048 -max_len=24576 -print_final_stats=1 -seed="$i" \
      -reload=10 "-artifact_prefix=$work/findings/" "-dict=$folder/dictionary" new corpus >"log$i" 2>&1 &
    pids+=($!)
  done
  for pid in "${pids[@]}"; do wait "$pid" || codes=$((codes + 1)); done
  awk -v jobs="$jobs" -v seconds="$seconds" -v name="$name" -v codes="$codes" '
    /stat::number_of_executed_units/ {inputs += $2}
    /stat::new_units_added/ {added += $2}
    /stat::peak_rss_mb/ {if ($2 > rss) rss = $2}
    /stat::slowest_unit_time_sec/ {if ($2 > slow) slow = $2}
    END {printf "%s: %d processes for %d s: %d inputs, %d new units, slowest %d s, peak %d MiB, %d processes with a finding\n",
                name, jobs, seconds, inputs, added, slow, rss, codes}' log*
  for i in $(seq "$jobs"); do echo "process $i: $(grep -aE 'INITED' "log$i" | tail -n 1) … $(grep -aE 'DONE' "log$i" | tail -n 1)"; done
  for i in $(seq "$jobs"); do grep -aE 'ERROR|SUMMARY|Test unit written|runtime error' -A 12 "log$i" | head -n 60; done
  [ -z "$(ls findings)" ] || tar cJf "$out/$name-findings.tar.xz" findings
  cd / && rm -rf "$work"
  [ "$codes" = 0 ]
}

case "${1:?$usage}" in
  pack) pack "${2:?$usage}" "$(realpath -m "${3:?$usage}")" ;;
  run)
    mkdir -p "${4:?$usage}"
    run "$(realpath "$2")" "$3" "$(realpath "$4")" 2>&1 | tee "$4/fuzzer.txt"
    exit "${PIPESTATUS[0]}"
    ;;
  *) echo "$usage" >&2; exit 2 ;;
esac
