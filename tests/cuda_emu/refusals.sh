#!/bin/bash
# refusals.sh OPS MODULE CFTRUN [SEED ...] - ops and training against stand-ins that decline at random,
# by seed, what real libraries sometimes decline: epilogues, algorithms, engines, and that answer more
# than they were asked for. Seeds 1 and 2 where none is given.
set -uo pipefail
ops=$1 module=$2 cftrun=$3
shift 3
passed=0 failed=0
say() {  # say CODE WHAT LOG
  if [[ $1 == 0 ]]; then
    echo "ok    $2"
    passed=$((passed + 1))
  else
    echo "FAIL  $2"
    tail -n 20 "$3"
    failed=$((failed + 1))
  fi
}
log=$(mktemp)
trap 'rm -f "$log"' EXIT
(($#)) || set -- 1 2
for seed; do
  export CUDA_EMU_SEED=$seed CFT_CACHE=$(mktemp -d)
  "$ops" --module "$module" matmul attention >"$log" 2>&1
  say $? "ops, seed $seed" "$log"
  CFT_CUDA_MODULE=$module "$cftrun" tests/cuda_emu/training.lua >"$log" 2>&1
  say $? "training, seed $seed" "$log"
  rm -rf "$CFT_CACHE"
done
echo "$passed passed, $failed failed, 0 skipped"
[[ $failed == 0 ]]
