#!/bin/bash
# bundle.sh [BUILD] [FILE] - what tests/gpu/check.sh needs on a machine that has a GPU and CUDA but no
# compiler and no package registry, as one archive: cftrun, the CUDA module, the test programs, the
# shared libraries that a bare machine lacks, tests and their data. Unpack it anywhere and run
# cft-gpu/tests/gpu/check.sh. NVIDIA's libraries are not in it: they are found where CUDA is.
#   BUILD  a build folder with CFT_CUDA=ON; default build/cuda
#   FILE   default cft-gpu.tar.zst
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
build=${1-build/cuda} file=$(realpath -m "${2-cft-gpu.tar.zst}")
most=$((40 * 1000 * 1000))

programs=("$build/cftrun" "$build"/tests/cuda_emu/cuda_{ops,bench})
[[ -x $build/tests/cuda_emu/cuda_plans ]] && programs+=("$build/tests/cuda_emu/cuda_plans")
for program in "${programs[@]}" "$build/libcft_cuda.so"; do
  [[ -e $program ]] || { echo "bundle.sh: $program is missing; build with CFT_CUDA=ON first" >&2; exit 1; }
done

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
to=$work/cft-gpu
mkdir -p "$to"/{bin,lib,tests,docs}
cp "${programs[@]}" "$build/libcft_cuda.so" "$to/bin"
strip "$to"/bin/*

# What every machine has of its own stays out: a newer libstdc++ of ours would want a newer C library than Ubuntu 22.04 has.
tests/gpu/needs.sh --libraries "${programs[@]}" |
  while IFS= read -r library; do
    cp -L "$library" "$to/lib"
  done

cp -r tests/{gpu,ops,train,oracle} "$to/tests"
cp tests/*.lua "$to/tests"
mkdir -p "$to/tests/cuda_emu" "$to/tests/golden"
cp tests/cuda_emu/{training,collectives,generate}.lua "$to/tests/cuda_emu"
cp -r tests/golden/*-small* tests/golden/ops.* "$to/tests/golden"
git rev-parse HEAD >"$to/COMMIT"

tar -C "$work" -cf - cft-gpu | zstd -q -19 -T0 -f -o "$file"
size=$(stat -c %s "$file")
echo "$file: $((size / 1000)) kB"
((size <= most)) || { echo "bundle.sh: more than $((most / 1000)) kB" >&2; exit 1; }
