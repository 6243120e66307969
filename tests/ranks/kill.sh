#!/bin/bash
# Four ranks, one of which is killed or stopped at a random moment, N times: tests/ranks/kill.sh N CFTRUN [MPIRUN words ...]
# All others must be gone within 10 s, and the table must name the rank. With words they start the ranks in place of --ranks 4.
set -euo pipefail
times=$1 cftrun=$(realpath "$2"); shift 2
recipe=$(realpath "$(dirname "$0")/../fixtures/few_steps.lua")
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
cd "$folder"
export OMP_NUM_THREADS=1
start=("$cftrun" --ranks 4)
[[ $# -gt 0 ]] && start=("$@" "$cftrun")
alive() { local p; for p in "${pids[@]}"; do kill -0 "$p" 2>/dev/null && return 0; done; return 1; }
failed=0 longest=0
for ((i = 1; i <= times; ++i)); do
  rm -rf run
  "${start[@]}" "$recipe" out=run slow=0.02 steps=1000000 zero=$((RANDOM % 3)) >said 2>&1 &
  job=$!
  for ((k = 0; k < 600; ++k)); do [[ -s run/run.json ]] && break; sleep 0.05; done
  mapfile -t pids < <(grep -o '"pid": *[0-9]*' run/run.json | grep -o '[0-9]*')
  sleep "$((RANDOM % 2)).$((RANDOM % 10))"
  rank=$((RANDOM % 4)) signal=KILL; ((RANDOM % 2)) && signal=STOP
  kill -$signal "${pids[$rank]}"
  from=$(date +%s%N)
  while alive && (($(date +%s%N) - from < 30000000000)); do sleep 0.05; done
  ms=$((($(date +%s%N) - from) / 1000000))
  code=0; wait "$job" || code=$?
  ((ms > longest)) && longest=$ms
  if ((ms > 10000)) || ((code == 0)) || ! grep -q "rank $rank of 4 is lost" said; then
    echo "FAIL  $i: rank $rank, SIG$signal: gone after $ms ms, code $code"; cat said; failed=$((failed + 1))
  fi
done
echo "$((times - failed)) of $times: all gone after at most $longest ms, the lost rank named"
exit $((failed > 0))
