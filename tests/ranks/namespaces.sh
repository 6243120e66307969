#!/bin/bash
# Two network namespaces as two hosts (two_hosts.sh says what that wants):  tests/ranks/namespaces.sh CFTRUN
# Three ranks, two on host one and one on host two. The losses over TCP are those of `--ranks 3`; and when the cable is cut in the middle
# of a run all ranks are gone within 10 s, the table names the rank on the other side, and the exit code is 6. MPICH's mpirun waits for
# the other host for ever, so that of it neither its end nor its code is looked at.
set -euo pipefail
cftrun=$(realpath "$1")
recipe=$(realpath "$(dirname "$0")/../fixtures/few_steps.lua")
. "$(dirname "$0")/two_hosts.sh"
export OMP_NUM_THREADS=1
folder=$(mktemp -d)
trap 'unplug; rm -rf "$folder"' EXIT
cd "$folder"
plug_in "$folder"
sent() { ip netns exec "$one" cat /sys/class/net/cable/statistics/tx_bytes; }
losses() { grep -o '"loss":[0-9.]*,"lr"' "$1/log.jsonl"; }
failed=0 of_mpirun='ended < 60000 && code == 6'
[[ $(mpirun --version 2>&1) == *"Open MPI"* ]] || of_mpirun=1
# result WHAT LOG CONDITION: say whether it holds.
result() {
  if eval "$3"; then echo "ok    $1"; else echo "FAIL  $1"; cat "$2"; failed=1; fi
}

"$cftrun" --ranks 3 "$recipe" out=here zero=1 steps=12 >here.said 2>&1 || { cat here.said; exit 1; }
before=$(sent)
on_hosts 2 1 "$cftrun" "$recipe" out=apart zero=1 steps=12 >said 2>&1 ||
  { echo "FAIL  the run on two hosts ends with code $?"; cat said; exit 1; }
mib=$((($(sent) - before) >> 20))
result "two hosts: the losses of --ranks 3, $mib MiB over the cable" said '((mib > 0)) && [[ $(losses here) == "$(losses apart)" ]]'

on_hosts 2 1 "$cftrun" "$recipe" out=cut zero=1 steps=1000000 slow=0.02 >said 2>&1 & job=$!
cut_cable cut "$job"
result "the cable is cut: ${#pids[@]} ranks gone after $gone ms, mpirun after $ended ms with code $code; rank 2 is named" said \
  '((gone < 10000 && (of_mpirun) && ${#pids[@]} == 3)) && grep -q "rank 2 of 3 is lost: nothing was heard" said &&
   grep -q "rank 2 on two, .*step" said && grep -q "rank 0 on one, .*waits for rank 2" said'
exit $failed
