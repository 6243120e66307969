#!/bin/bash
# check.sh [--out DIR] [SECONDS] [NAME ...] - everything that only a card proves, within SECONDS (540).
#
#   preflight   what is here (cftrun doctor); ends at once where no matrix product can be had
#   ops         every op against the CPU device, a process a section: one that faults ends no other
#   training    small models against PyTorch's numbers, whole steps against the CPU, bit-equal repeats; the
#               runtime's op cases; collectives of one rank; generation against the CPU
#   bench       copies, matmuls (heuristic's first and best), ops, attention and generation against their floors
#   steps       training steps of Qwen2.5-0.5B, 1.5B and 7B of 65,536 tokens, micro-batch and optimizer apart
#   pytorch     the same in PyTorch, where it is installed
#   sanitizer   compute-sanitizer on the small cases, with the time that is left
#
# NAME ...: these parts alone. The report is written anew after each suite, so that whatever ends this leaves
# what was found: DIR/gpu-report.md, and all raw files in DIR/raw.tar.gz; DIR is gpu-out. A row that fails
# ends no other. Runs in a checkout (after a build with CFT_CUDA) or in a bundle that bundle.sh made elsewhere;
# needs a driver, and for speed cuBLASLt (of a toolkit or of pip), neither Python nor a package registry.
#
#   CFT_CUDA_MODULE  another module than the one that was built: an emulated one makes this a dry run
#   BUILD            the build folder, in a checkout; default: build/cuda
set -u
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 2
out=gpu-out budget=540 parts=()
while (($#)); do
  case $1 in
    --out) out=${2:?--out wants a folder}; shift ;;
    --out=*) out=${1#--out=} ;;
    [0-9]*) budget=$1 ;;
    ops | training | bench | trace | steps | pytorch | sanitizer) parts+=("$1") ;;
    *) echo "usage: $0 [--out DIR] [SECONDS] [ops|training|bench|trace|steps|pytorch|sanitizer ...]" >&2; exit 2 ;;
  esac
  shift
done
[[ $budget =~ ^[0-9]+$ ]] || { echo "check.sh: $budget is no number of seconds" >&2; exit 2; }

# ---- where things are ------------------------------------------------------------------------

if [[ -d bin ]]; then # a bundle
  bin=bin tools=bin
  # Libraries that this machine has are its own: those of the bundle are for what it lacks.
  export LD_LIBRARY_PATH=${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}$PWD/lib
else
  bin=${BUILD:-build/cuda} tools=${BUILD:-build/cuda}/tests/cuda_emu
fi
module=$(realpath "${CFT_CUDA_MODULE:-$bin/libcft_cuda.so}")
export CFT_CUDA_MODULE=$module CFT_TEST_DEVICE=cuda
for file in "$bin/cftrun" "$tools/cuda_ops" "$tools/cuda_bench" "$module"; do
  [[ -e $file ]] || { echo "check.sh: $file is missing; build with CFT_CUDA=ON first" >&2; exit 2; }
done
mkdir -p "$out" || exit 2
out=$(realpath "$out")
raw=$(mktemp -d)
export CFT_CACHE=$raw/cache
dry=
[[ $module == *emu* ]] && dry=1

# ---- running, counting, reporting --------------------------------------------------------------

failures=0
left() { echo $((budget - SECONDS)); }

report() {
  timeout -k 5 20 "$bin/cftrun" tests/gpu/report.lua "$raw" "$out/gpu-report.md" || failures=$((failures + 1))
  tar -C "$raw" --exclude=./handover -czf "$out/raw.tar.gz.new" . && mv "$out/raw.tar.gz.new" "$out/raw.tar.gz"
}
finish() {
  report
  rm -rf "$raw"
  echo "check.sh: $failures failed; $out/gpu-report.md, after $SECONDS s"
  exit $((failures > 0))
}
trap 'echo "check.sh: stopped" >&2; failures=$((failures + 1)); finish' TERM INT HUP

# within SECONDS COMMAND...: no longer than that, and no longer than is left, less what the report takes.
within() {
  local limit=$1 rest=$(($(left) - 10))
  shift
  if ((rest <= 0)); then
    echo "check.sh: the time is up before $*" >&2
    return 124
  fi
  timeout -k 5 "$((limit < rest ? limit : rest))" "$@"
}

# suite NAME SECONDS COMMAND...: its last line is its result; a bad end without one is one too.
suite() {
  local name=$1 limit=$2 log status last
  shift 2
  log=$raw/$(echo "$name" | tr -c 'a-zA-Z0-9\n' _).log
  within "$limit" "$@" >"$log" 2>&1
  status=$?
  grep -E '^FAIL|ERROR SUMMARY: [1-9]' "$log" | head -20 | sed "s/^/FAIL in $name: /" >>"$raw/correct.log"
  last=$(grep -E '[0-9]+ passed, [0-9]+ failed' "$log" | tail -1)
  [[ $status == 124 ]] && last="${last:-no result}, stopped after $limit s or at the end of the time"
  [[ $status != 0 ]] && failures=$((failures + 1)) && last="FAIL: ${last:-ended with status $status}"
  echo "suite $name: ${last:-done}" | tee -a "$raw/correct.log"
  report
}
skip() { echo "suite $1: skipped, $2" | tee -a "$raw/correct.log"; }

# ---- what is here ------------------------------------------------------------------------------

preflight() {
  local name driver commit
  read -r name < <(timeout 10 nvidia-smi --query-gpu=name,driver_version --format=csv,noheader 2>/dev/null)
  driver=${name##*, } name=${name%%, *}
  commit=$(cat COMMIT 2>/dev/null || git rev-parse HEAD 2>/dev/null || echo unknown)
  printf '{"gpu": "%s", "driver": "%s", "date": "%s", "commit": "%s", "emulated": %s}\n' \
    "${name:-unknown}" "${driver:-unknown}" "$(date -u +%Y-%m-%d)" "$commit" "${dry:-0}" >"$raw/info.json"
  NO_COLOR=1 timeout -k 5 30 "$bin/cftrun" doctor 2>&1 | tee "$raw/doctor.txt"
  [[ ${PIPESTATUS[0]} == 0 ]] && return
  echo "check.sh: no GPU can be used here" >&2
  report
  rm -rf "$raw"
  exit 3
}

# ---- correct -----------------------------------------------------------------------------------

sections() { "$tools/cuda_ops" --sections; }

ops() {
  local section quick=()
  [[ $dry ]] && quick=(quick)
  for section in $(sections); do
    suite "ops: $section" 30 "$tools/cuda_ops" --module "$module" ${quick[@]+"${quick[@]}"} --section "$section"
  done
}

training() {
  suite "training steps against the CPU; bit-equal repeats" 50 "$bin/cftrun" tests/cuda_emu/training.lua
  suite "small models against PyTorch's numbers, 20 steps" 50 "$bin/cftrun" tests/run.lua tests/train/golden.lua
  suite "op cases of the runtime" 50 "$bin/cftrun" tests/run.lua tests/ops/
  suite "collectives of one rank, by NCCL" 50 "$bin/cftrun" tests/cuda_emu/collectives.lua
  suite "generation against the CPU; the same bits in any batch" 50 "$bin/cftrun" tests/cuda_emu/generate.lua
  # The module as the runtime finds it by itself, by way of the driver.
  [[ $dry ]] || suite "the module beside cftrun" 20 env -u CFT_CUDA_MODULE "$bin/cftrun" --device cuda --check
  if [[ -x $tools/cuda_plans ]] && within 30 "$tools/cuda_plans" card >"$raw/card.json" 2>&1; then
    echo "suite cuDNN's description of this card: kept in card.json" | tee -a "$raw/correct.log"
  else
    skip "cuDNN's description of this card" "no cuDNN where the loader looks"
  fi
}

sanitizer() {
  local tool path candidate
  path=$(command -v compute-sanitizer)
  for candidate in /usr/local/cuda*/bin/compute-sanitizer; do
    [[ -z $path && -x $candidate ]] && path=$candidate
  done
  for tool in memcheck racecheck synccheck; do
    if [[ -z $path ]]; then
      skip "compute-sanitizer $tool" "compute-sanitizer is not on this machine"
      continue
    fi
    local more=()
    [[ $tool == memcheck ]] && more=(--report-api-errors no --track-stream-ordered-races all)
    # NVIDIA's own kernels are not ours to check; `device` asks for memory that is not there, on purpose.
    CFT_CUDA_TUNE=0 CFT_CUDNN=0 suite "compute-sanitizer $tool" 60 "$path" --tool "$tool" \
      ${more[@]+"${more[@]}"} --error-exitcode 1 "$tools/cuda_ops" --module "$module" --repeats 1 quick \
      $(sections | grep -vxE 'device|matmul')
  done
}

# ---- times -------------------------------------------------------------------------------------

bench() {
  local small=()
  [[ $dry ]] && small=(--small)
  CFT_CUDA_TUNE=0 within 40 "$tools/cuda_bench" "$module" ${small[@]+"${small[@]}"} --json "$raw/first.jsonl" matmul \
    >"$raw/first.log" 2>&1 || failures=$((failures + 1))
  within 120 "$tools/cuda_bench" "$module" ${small[@]+"${small[@]}"} --json "$raw/bench.jsonl" 2>&1 | tee "$raw/bench.log"
  [[ ${PIPESTATUS[0]} == 0 ]] || failures=$((failures + 1))
  report
}

# Where the time of a step goes, op by op; the file is for Perfetto.
trace() {
  local shape=(--model qwen2.5-1.5b --tokens 16384 --length 1024 --seconds 0.5 --dtype bf16)
  [[ $dry ]] && shape=(--model demo --tokens 96 --length 32 --seconds 0 --dtype f32)
  rm -f "$raw/trace.json"
  within 60 "$bin/cftrun" bench --device cuda "${shape[@]}" --trace "$raw/trace.json" >"$raw/trace.log" 2>&1 ||
    { echo "failed" >>"$raw/trace.log"; failures=$((failures + 1)); }
  report
}

# step MODEL TOKENS LENGTH LEARNED [key=value ...]
step() {
  within 40 "$bin/cftrun" tests/gpu/step.lua "$@" ${dry:+seconds=0} >"$raw/step.one" 2>&1 ||
    { echo "$*: failed" >>"$raw/step.one"; failures=$((failures + 1)); }
  grep -v '^json ' "$raw/step.one" | tee -a "$raw/steps.log"
  sed -n 's/^json //p' "$raw/step.one" >>"$raw/steps.jsonl"
  report
}

steps() {
  if [[ $dry ]]; then
    step demo 200 64 1 accumulate=2
    return
  fi
  step qwen2.5-7b 4096 1024 1 accumulate=16
  step qwen2.5-0.5b 32768 1024 1 accumulate=2
  step qwen2.5-1.5b 32768 1024 1 accumulate=2
  step qwen2.5-7b 4096 1024 0.4 accumulate=16
  step qwen2.5-7b 16384 4096 1 accumulate=4
  step qwen2.5-0.5b 32768 1024 1 accumulate=2 states=f32
}

# The same step in PyTorch: cftrun hands over the batch and the shape.
pytorch() {
  within 60 python3 -c 'import torch, transformers, safetensors; assert torch.cuda.is_available()' 2>/dev/null || return
  local model
  for model in qwen2.5-0.5b qwen2.5-1.5b qwen2.5-7b; do
    within 20 "$bin/cftrun" tests/gpu/handover.lua "$model" 4096 1024 "$raw/handover" &&
      within 60 python3 tests/oracle/bench_pytorch.py --model "$raw/handover/config.json" \
        --batch "$raw/handover/batch.safetensors" --dtype bf16-weights --device cuda --mode eager \
        --batching padded --rows 4 --head all >"$raw/pytorch.one" 2>>"$raw/pytorch.log" &&
      within 10 python3 -c 'import json, sys; r = json.load(open(sys.argv[1])); print(json.dumps(
        {"model": sys.argv[2], "tokens": 4096, "tokens_per_s": r["tokens_per_s"]}))' \
        "$raw/pytorch.one" "$model" >>"$raw/pytorch.jsonl"
    report
  done
}

preflight
((${#parts[@]})) || parts=(ops training bench trace steps pytorch sanitizer)
for part in "${parts[@]}"; do "$part"; done
finish
