#!/usr/bin/env bash
# Packs what the GPU tests need into one folder, to be carried to a machine that has a GPU and nothing else.
#
#   tests/gpu/pack.sh BUILD FOLDER        e.g. build/dev build/gpu
#
# FOLDER gets bin/ (stripped), lib/ (what the binaries need beside the C library) and the test data;
# tests/gpu/run.sh runs there.
set -euo pipefail
cd "$(dirname "$0")/../.."
. tests/gpu/carry_libraries.sh
build=${1:?usage: tests/gpu/pack.sh BUILD FOLDER}
folder=${2:?usage: tests/gpu/pack.sh BUILD FOLDER}
rm -rf "$folder"
mkdir -p "$folder/bin" "$folder/lib" "$folder/testdata"
for name in tests/cuda_device_test tests/gpu_session_test bin/trund bin/trun-executor bin/trun-client bench/gpu_bench; do
  [ -x "$build/$name" ] || continue
  strip -o "$folder/bin/$(basename "$name")" "$build/$name"
  carry_libraries "$build/$name" "$folder/lib"
done
strip --strip-unneeded "$folder"/lib/*.so* 2>/dev/null || true
cp server/device/cuda/testdata/*.cubin server/device/cuda/testdata/{conformance,im2col}.ptx "$folder/testdata/"
for version in 3.4.0 3.9.0; do
  for kind in cubin json; do
    cp "server/artifact/testdata/$version/described.$kind" "$folder/testdata/described-$version.$kind"
  done
done
cp tests/gpu/run.sh "$folder/"
du -sh "$folder"
