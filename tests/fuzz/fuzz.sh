#!/usr/bin/env bash
# Runs one fuzzer of the asan build, from real files of this repository.
#
#   tests/fuzz/fuzz.sh ptx_fuzzer 600      for 600 seconds
#
# What it starts from: the files that its SEEDS in CMakeLists.txt name, and what earlier runs found worth keeping
# (build/fuzz-corpus). Words of the seeds become its dictionary. An input that breaks something is kept in build/logs,
# and the fuzzer repeats it when given its name.
set -euo pipefail
cd "$(dirname "$0")/../.."

name=${1:?which fuzzer? see --help}
case "$name" in -h|--help) sed -n '2,8p' "$0" | sed 's/^# \{0,1\}//'; exit 0 ;; esac
seconds=${2:-60}
fuzzer=build/asan/fuzz/$name
[ -x "$fuzzer" ] || { echo "fuzz: $fuzzer is missing: cmake --preset asan && ninja -C build/asan $name" >&2; exit 2; }

corpus=build/fuzz-corpus/$name seeds=build/fuzz-seeds/$name log=build/logs/$name.log
rm -rf "$seeds"
mkdir -p "$corpus" "$seeds" build/logs
options=()
while read -r pattern; do
  mapfile -t files < <(git ls-files -- "$pattern")
  [ ${#files[@]} -gt 0 ] || { echo "$name: FAILED: no file is called $pattern, which SEEDS names"; exit 1; }
  for file in "${files[@]}"; do cp "$file" "$seeds/${file//\//_}"; done
done <"$fuzzer.seeds"
if [ -s "$fuzzer.seeds" ]; then
  grep -ohaE '[%.@]?[A-Za-z_][A-Za-z0-9_.]{1,31}' -r "$seeds" | sort | uniq -c | sort -rn | awk 'NR <= 500 {print "\"" $2 "\""}' \
    >"$seeds.dict"
  options+=("-dict=$seeds.dict")
fi
if "$fuzzer" -max_total_time="$seconds" -timeout=20 -rss_limit_mb=2048 -print_final_stats=1 \
  "-artifact_prefix=build/logs/$name-" "${options[@]}" "$corpus" "$seeds" >"$log" 2>&1; then
  echo "$name: $(awk '/stat::number_of_executed_units/ {print $2}' "$log") inputs from $(find "$seeds" -type f | wc -l) files, no finding"
else
  echo "$name: FAILED"
  grep -vE '^#[0-9]|^\s*NEW_FUNC|^Dictionary|^\s*\[' "$log" | tail -n 30
  exit 1
fi
