#!/bin/bash
# GPUs of two hosts, emulated (two_hosts.sh says what that wants):  tests/ranks/gpus_of_hosts.sh CFTRUN MODULE
# MODULE is libcft_cuda_emu.so. Four ranks, two on each of two hosts that have two GPUs each: with mpirun, and by torchrun's variables,
# they make the losses of `--ranks 4` on a host of four GPUs, digit for digit, and those of one process on a CPU to 1e-5. A GPU of a
# number is another one on each host; two ranks with one of the same host are refused. The cable is cut: all are gone within 10 s.
# The stand-in for NCCL does not use the cable: it meets in a file, which both hosts see.
set -euo pipefail
cftrun=$(realpath "$1")
export CFT_CUDA_MODULE; CFT_CUDA_MODULE=$(realpath "$2")
recipe=$(realpath "$(dirname "$0")/../fixtures/few_steps.lua")
. "$(dirname "$0")/two_hosts.sh"
export OMP_NUM_THREADS=1 CUDA_EMU_DEVICES=2
folder=$(mktemp -d)
trap 'unplug; rm -rf "$folder"' EXIT
cd "$folder"
plug_in "$folder"
failed=0
# result WHAT LOG CONDITION: say whether it holds.
result() {
  if eval "$3"; then echo "ok    $1"; else echo "FAIL  $1"; cat "$2"; failed=1; fi
}
losses() { grep -o '"loss":[0-9.]*,"lr"' "$1/log.jsonl"; }
near() {
  paste <(losses "$1" | grep -o '[0-9][0-9.]*') <(losses "$2" | grep -o '[0-9][0-9.]*') |
    awk '{ d = ($1 - $2) / $1; if (d > 1e-5 || d < -1e-5) bad = 1 } END { exit bad || NR != 4 }'
}

settings=(batch=4 tokens=200 held=3 steps=4)
"$cftrun" "$recipe" device=cpu out=cpu "${settings[@]}" >said 2>&1 || { cat said; exit 1; }
for zero in 0 3; do
  CUDA_EMU_DEVICES=4 "$cftrun" --ranks 4 "$recipe" device=cuda out=host$zero zero=$zero "${settings[@]}" >said 2>&1 || { cat said; exit 1; }
  on_hosts 2 2 "$cftrun" "$recipe" device=cuda out=mpirun$zero zero=$zero "${settings[@]}" >said 2>&1 || echo "code $?" >>said
  result "mpirun, zero=$zero: the losses of four GPUs of one host; those of a CPU to 1e-5" said \
    '[[ $(losses host$zero) == "$(losses mpirun$zero)" ]] && near cpu mpirun$zero && grep -q "device cuda:0" said'
done

export WORLD_SIZE=4 LOCAL_WORLD_SIZE=2 MASTER_ADDR=10.77.0.1 MASTER_PORT=29500 CFT_RUN_SECRET=two-hosts
jobs=() hosts=(one one two two)
for rank in 0 1 2 3; do
  RANK=$rank LOCAL_RANK=$((rank % 2)) on_host ${hosts[$rank]} "$cftrun" "$recipe" device=cuda out=torchrun zero=1 "${settings[@]}" \
    >said.$rank 2>&1 & jobs+=($!)
done
codes=
for job in "${jobs[@]}"; do code=0; wait "$job" || code=$?; codes+=" $code"; done
cat said.* >said
result "torchrun's variables, zero=1: the same losses" said \
  '[[ $codes == " 0 0 0 0" ]] && grep -q "4 ranks by torchrun" said && near host0 torchrun && near cpu torchrun'
unset WORLD_SIZE LOCAL_WORLD_SIZE MASTER_ADDR MASTER_PORT CFT_RUN_SECRET

code=0; CUDA_EMU_DEVICES=1 on_hosts 1 1 "$cftrun" "$recipe" device=cuda out=each "${settings[@]}" >said 2>&1 || code=$?
result "one GPU on each host, of one number: two GPUs" said '((code == 0)) && near cpu each'
code=0; CUDA_EMU_DEVICES=1 on_hosts 1 2 "$cftrun" "$recipe" device=cuda out=refused "${settings[@]}" >said 2>&1 || code=$?
result "two ranks on host two, which has one: refused" said \
  '((code == 3)) && [[ $(grep -c "cftrun: " said) == 1 ]] && grep -q "ranks 1 and 2 on two have the same GPU, GPU-.*; 2 ranks are there" said'

on_hosts 2 2 "$cftrun" "$recipe" device=cuda out=cut "${settings[@]:0:3}" steps=1000000 >said 2>&1 & job=$!
cut_cable cut "$job"
result "the cable is cut: ${#pids[@]} ranks gone after $gone ms, mpirun after $ended ms with code $code" said \
  '((gone < 10000 && ended < 60000 && code == 6 && ${#pids[@]} == 4)) && grep -q "rank [23] of 4 is lost: nothing was heard" said &&
   grep -q "rank [23] on two, .*step" said && grep -Eq "rank 0 on one, .*waits for rank [123]" said'
exit $failed
