#!/bin/bash
# check.sh [correct|bench] - everything that only a card proves, in two stages of under nine minutes.
#
#   correct  every op against the CPU device; compute-sanitizer on the small cases; the runtime's op
#            cases, small models against PyTorch's numbers and whole training steps on the card;
#            bit-equal repeats; what cuDNN knows of the card
#   bench    copies, matmuls (heuristic's first and best), ops and attention against their floors;
#            training steps of Qwen2.5-0.5B, 1.5B and 7B; the same in PyTorch where it is installed
#
# Without an argument both, one after the other. Runs in a checkout (after a build with CFT_CUDA) or in a
# bundle that bundle.sh made elsewhere; needs a GPU, its driver, cuBLASLt, and no package registry.
# Writes docs/gpu-report.md (in a bundle: gpu-report.md) and the raw numbers beside it.
#
#   CFT_CUDA_MODULE  another module than the one that was built: an emulated one makes this a dry run
#   BUILD            the build folder, in a checkout; default: build/cuda
#   OUT              where raw numbers go; default: gpu-out
set -u
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 2
stage=${1-all}
case $stage in correct | bench | all) ;; *)
  echo "usage: $0 [correct|bench]" >&2
  exit 2
  ;;
esac

# ---- where things are ------------------------------------------------------------------------

if [[ -d bin ]]; then # a bundle
  bin=bin report=gpu-report.md
  export LD_LIBRARY_PATH=$PWD/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
  tools=bin
else
  bin=${BUILD:-build/cuda} report=docs/gpu-report.md
  tools=$bin/tests/cuda_emu
fi
module=$(realpath "${CFT_CUDA_MODULE:-$bin/libcft_cuda.so}")
export CFT_CUDA_MODULE=$module CFT_TEST_DEVICE=cuda
out=${OUT:-gpu-out}
mkdir -p "$out"
export CFT_CACHE=${CFT_CACHE:-$PWD/$out/cache}
for file in "$bin/cftrun" "$tools/cuda_ops" "$tools/cuda_bench" "$module"; do
  [[ -e $file ]] || { echo "check.sh: $file is missing; build with CFT_CUDA=ON first" >&2; exit 2; }
done
dry=
[[ $module == *emu* ]] && dry=1 && report=$out/gpu-report.md

gpu=$(timeout 20 nvidia-smi --query-gpu=name --format=csv,noheader 2>/dev/null | head -1)
driver=$(timeout 20 nvidia-smi --query-gpu=driver_version --format=csv,noheader 2>/dev/null | head -1)
commit=$(cat COMMIT 2>/dev/null || git rev-parse HEAD 2>/dev/null || echo unknown)
printf '{"gpu": "%s", "driver": "%s", "date": "%s", "commit": "%s", "emulated": %s}\n' \
  "${gpu:-none}" "${driver:-none}" "$(date -u +%Y-%m-%d)" "$commit" "${dry:-0}" >"$out/info.json"
if [[ -z $gpu && -z $dry ]]; then
  timeout 30 "$tools/cuda_ops" --module "$module" none
  echo "check.sh: no GPU answers here" >&2
  exit 3
fi

# ---- running and counting --------------------------------------------------------------------

failures=0
# within SECONDS COMMAND...: no longer than that, and no longer than is left of the stage's nine minutes.
within() {
  local limit=$1 left=$((begun + 520 - SECONDS))
  shift
  if ((left <= 0)); then
    echo "check.sh: the stage's time is up before $*" >&2
    return 124
  fi
  timeout "$((limit < left ? limit : left))" "$@"
}

# suite NAME SECONDS COMMAND...: its last line is its result; a bad end without one is one too.
suite() {
  local name=$1 limit=$2 log status last
  shift 2
  log=$out/$(echo "$name" | tr -c 'a-zA-Z0-9\n' _).log
  within "$limit" "$@" >"$log" 2>&1
  status=$?
  grep -E '^FAIL|rror' "$log" | head -20 | sed "s/^/FAIL in $name: /" >>"$out/correct.log"
  last=$(grep -E '[0-9]+ passed, [0-9]+ failed' "$log" | tail -1)
  [[ $status == 124 ]] && last="${last:-no result}, stopped after $limit s"
  [[ $status != 0 ]] && failures=$((failures + 1)) && last="FAIL: ${last:-ended with status $status}"
  echo "suite $name: ${last:-done}" | tee -a "$out/correct.log"
}
skip() { echo "suite $1: skipped, $2" | tee -a "$out/correct.log"; }

correct() {
  begun=$SECONDS
  rm -f "$out/correct.log"
  suite "every op against the CPU" 120 "$tools/cuda_ops" --module "$module"
  local sanitizer candidate
  sanitizer=$(command -v compute-sanitizer)
  for candidate in /usr/local/cuda*/bin/compute-sanitizer; do
    [[ -z $sanitizer && -x $candidate ]] && sanitizer=$candidate
  done
  for tool in memcheck racecheck synccheck; do
    if [[ -z $sanitizer ]]; then
      skip "compute-sanitizer $tool" "compute-sanitizer is not on this machine"
    else
      # The library's kernels are not ours to check, and its autotuning takes long under a tool.
      CFT_CUDA_TUNE=0 suite "compute-sanitizer $tool" 60 "$sanitizer" --tool $tool \
        --error-exitcode 1 "$tools/cuda_ops" --module "$module" --repeats 1 quick
    fi
  done
  suite "op cases of the runtime" 50 "$bin/cftrun" tests/run.lua tests/ops/
  suite "small models against PyTorch's numbers, 20 steps" 50 "$bin/cftrun" tests/run.lua tests/train/golden.lua
  suite "training steps against the CPU; bit-equal repeats" 50 "$bin/cftrun" tests/cuda_emu/training.lua
  suite "collectives of one rank, by NCCL" 50 "$bin/cftrun" tests/cuda_emu/collectives.lua
  if [[ -x $tools/cuda_plans ]] && within 30 "$tools/cuda_plans" card >"$out/card.json" 2>&1; then
    echo "suite cuDNN's description of this card: kept in $out/card.json" | tee -a "$out/correct.log"
  else
    skip "cuDNN's description of this card" "no cuDNN"
  fi
}

# ---- times -----------------------------------------------------------------------------------

join_json() { sed -n 's/^json //p' "$@" | paste -sd, | sed 's/^/[/; s/$/]/'; }

bench() {
  begun=$SECONDS
  local small=() steps=(qwen2.5-0.5b qwen2.5-1.5b qwen2.5-7b) lengths=(1024 2048 4096) tokens=4096
  [[ -n $dry ]] && small=(--small) && steps=(demo) && lengths=(64) && tokens=200
  CFT_CUDA_TUNE=0 within 60 "$tools/cuda_bench" "$module" "${small[@]}" --json "$out/first.json" matmul \
    >"$out/first.log" 2>&1 || failures=$((failures + 1))
  within 120 "$tools/cuda_bench" "$module" "${small[@]}" --json "$out/bench.json" 2>&1 | tee "$out/bench.log"
  : >"$out/steps.log"
  for model in "${steps[@]}"; do
    for length in "${lengths[@]}"; do
      within 40 "$bin/cftrun" tests/gpu/step.lua "$model" "$tokens" "$length" 1 ${dry:+seconds=0} \
        >>"$out/steps.log" 2>&1 || echo "$model at $length: failed" >>"$out/steps.log"
    done
    # A batch as critique fine-tuning has it.
    within 40 "$bin/cftrun" tests/gpu/step.lua "$model" "$tokens" "${lengths[0]}" 0.4 ${dry:+seconds=0} \
      >>"$out/steps.log" 2>&1 || echo "$model, 40% loss tokens: failed" >>"$out/steps.log"
  done
  grep -v '^json ' "$out/steps.log"
  join_json "$out/steps.log" >"$out/steps.json"
  rm -f "$out/pytorch.json"
  if within 60 python3 -c 'import torch, transformers, safetensors; assert torch.cuda.is_available()' 2>/dev/null; then
    pytorch
  fi
}

# The same step in PyTorch: cftrun hands over the batch and the shape.
pytorch() {
  local model
  : >"$out/pytorch.log"
  for model in qwen2.5-0.5b qwen2.5-1.5b qwen2.5-7b; do
    within 20 "$bin/cftrun" tests/gpu/handover.lua "$model" 4096 1024 "$out/handover" &&
      within 60 python3 tests/oracle/bench_pytorch.py --model "$out/handover/config.json" \
        --batch "$out/handover/batch.safetensors" --dtype bf16-weights --device cuda --mode eager \
        --batching padded --rows 4 --head all >"$out/pytorch.one" 2>>"$out/pytorch.log" &&
      within 10 python3 -c 'import json, sys; r = json.load(open(sys.argv[1])); print("json", json.dumps(
        {"model": sys.argv[2], "tokens": 4096, "tokens_per_s": r["tokens_per_s"]}))' \
        "$out/pytorch.one" "$model" >>"$out/pytorch.log"
  done
  join_json "$out/pytorch.log" >"$out/pytorch.json"
}

[[ $stage != bench ]] && correct
[[ $stage != correct ]] && bench
timeout 30 "$bin/cftrun" tests/gpu/report.lua "$out" "$report" || failures=$((failures + 1))
[[ $failures == 0 ]]
