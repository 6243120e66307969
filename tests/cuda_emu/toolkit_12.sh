#!/bin/bash
# toolkit_12.sh CXX CC - the module's host code against the headers of CUDA 12.4, cuDNN 9.15 and NCCL 2.21 from PyPI:
# what includes no kernels as it is, the host code in .cu files by way of the emulator, which takes the toolkit's types.
# Device code is not compiled: no compiler of CUDA 12 has seen it. Run in the repository's root.
cxx=$1 cc=$2 passed=0 failed=0
if ! folders=$(tests/fetch_models.sh cuda-12.4 2>&1); then
  echo "$folders"
  if [ "${CI-}" = true ]; then
    echo "0 passed, 1 failed, 0 skipped"
    exit 1
  fi
  echo "0 passed, 0 failed, 1 skipped"
  exit 0
fi
includes=(-Ikernels -Ikernels/cuda)
while IFS= read -r folder; do includes+=(-isystem "$folder"); done <<<"$folders"
common=(-fsyntax-only -Wall -Wextra -Werror -DCFT_CUDNN -DCFT_NCCL_H)
emulated=(-x c++ -Wno-unknown-pragmas -Itests/cuda_emu/emu -Itests/cuda_emu/standins)

check() {  # what is compiled, by what
  local what=$1 said
  shift
  if said=$("$@" 2>&1); then
    passed=$((passed + 1))
    echo "ok    $what"
  else
    failed=$((failed + 1))
    printf 'FAIL  %s:\n%s\n' "$what" "$(head -20 <<<"$said")"
  fi
}

version='#include <cuda_runtime.h>
#include <cublasLt.h>
#include <cudnn.h>
static_assert(CUDART_VERSION / 10 == 1204 && CUBLAS_VER_MAJOR == 12 && CUDNN_MAJOR == 9, "other headers were found");'
check "these are the headers of CUDA 12.4" "$cxx" -std=gnu++17 "${common[@]}" "${includes[@]}" -x c++ - <<<"$version"
for source in kernels/cuda/*.cpp; do
  check "$source" "$cxx" -std=gnu++17 "${common[@]}" "${includes[@]}" "$source"
done
check kernels/cuda/cudnn_graph.c "$cc" -std=gnu11 "${common[@]}" "${includes[@]}" kernels/cuda/cudnn_graph.c
for source in kernels/cuda/{device,matmul,attention}.cu; do
  check "$source" "$cxx" -std=gnu++17 "${common[@]}" "${emulated[@]}" "${includes[@]}" "$source"
done
echo "$passed passed, $failed failed, 0 skipped"
[ $failed = 0 ]
