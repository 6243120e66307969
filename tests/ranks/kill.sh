#!/bin/bash
# Four ranks, one of which is lost at a random moment, N times, a line each:
#   tests/ranks/kill.sh SEED N CFTRUN KILL|STOP [MPIRUN words ...]    with words they start the ranks in place of --ranks 4
#   tests/ranks/kill.sh SEED N CFTRUN --restarts
# All others must be gone within 10 s, with one table that names the rank and what it did, and says that they wait for it, and
# each checkpoint must be whole, whatever died in the midst of a save. With
# --restarts, killed and stopped by turns, `--restarts 3` must go on to the weights of a run that was never stopped.
set -euo pipefail
RANDOM=$1 times=$2 cftrun=$(realpath "$3") what=$4; shift 4
recipe=$(realpath "$(dirname "$0")/../fixtures/few_steps.lua")
folder=$(mktemp -d) job=
trap '[[ -z $job ]] || kill "$job" 2>/dev/null || true; rm -rf "$folder"' EXIT
cd "$folder"
export OMP_NUM_THREADS=1
weights=step-000040/model.safetensors
settings=(steps=1000000 save_every=2 keep=2) start=("$cftrun" --ranks 4)
[[ $# -gt 0 ]] && start=("$@" "$cftrun")
if [[ $what == --restarts ]]; then
  settings=(steps=40 save_every=5) start+=(--restarts 3)
  for zero in 0 1 2 3; do "$cftrun" --ranks 4 "$recipe" out="never$zero" zero=$zero "${settings[@]}" >said 2>&1 || { cat said; exit 1; }; done
fi
others_run() { local r; for r in 0 1 2 3; do ((r != rank)) && kill -0 "${pids[$r]}" 2>/dev/null && return 0; done; return 1; }
ms_since() { echo $((($(date +%s%N) - $1) / 1000000)); }

# The table is there once, and has the lost rank first, with what it did; another one waits for it.
well_said() {
  [[ $(grep -c "is lost:" said) == 1 ]] && grep -A1 "rank $rank of 4 is lost" said | grep -q "rank $rank on .* step .* for .* s" &&
    grep -Eq "waits for rank ([0-9], )*$rank" said
}
all_whole() {
  local saved
  for saved in run/step-??????; do
    [[ ! -e $saved ]] || "$cftrun" -e "assert(cft.files.verify '$saved')" >>said 2>&1 || return 1
  done
}
well_ended() {
  if [[ $what == --restarts ]]; then
    ((code == 0)) && grep -q "start 2 of 4" said && cmp -s "never$zero/$weights" "run/$weights"
  else
    ((ms <= 10000 && code != 0)) && well_said && all_whole
  fi
}

failed=0 longest=0
echo "  run  signal  rank  zero  after step  others gone after  code"
for ((i = 1; i <= times; ++i)); do
  rm -rf run
  rank=$((RANDOM % 4)) zero=$((RANDOM % 4)) moment=$((RANDOM % 2)).$((RANDOM % 10))$((RANDOM % 10)) signal=$what
  [[ $what == --restarts ]] && { signal=KILL; ((i % 2)) || signal=STOP; }
  "${start[@]}" "$recipe" out=run slow=0.05 zero=$zero "${settings[@]}" >said 2>&1 & job=$!
  for ((k = 0; k < 1200; ++k)); do [[ -s run/log.jsonl ]] && break; sleep 0.05; done
  mapfile -t pids < <(grep -o '"pid": *[0-9]*' run/run.json | grep -o '[0-9]*')
  sleep "$moment"
  kill -"$signal" "${pids[$rank]}"
  from=$(date +%s%N)
  step=$(grep -c '"step"' run/log.jsonl || true)
  while others_run && (($(ms_since "$from") < 30000)); do sleep 0.05; done
  ms=$(ms_since "$from")
  code=0; wait "$job" || code=$?
  job=
  ((ms > longest)) && longest=$ms
  verdict=
  well_ended || { verdict="   FAIL"; failed=$((failed + 1)); }
  printf '%5d  %-6s  %4d  %4d  %10d  %14d ms  %4d%s\n' "$i" "$signal" "$rank" "$zero" "$step" "$ms" "$code" "$verdict"
  [[ -z $verdict ]] || cat said
done
echo "$((times - failed)) of $times as they must be; the others gone after at most $longest ms"
exit $((failed > 0))
