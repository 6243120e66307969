#!/bin/bash
# Two ranks of one core each: a step, beside what it computes and what it sends measured apart:
#   tests/ranks/overlap.sh CFTRUN [RATE [SETTING ...]]
# With RATE, such as 1gbit, the ranks are on two hosts (two_hosts.sh says what that wants) with a cable of that rate; else they share memory.
set -euo pipefail
cftrun=$(realpath "$1") rate=${2:-}; shift $(($# < 2 ? $# : 2))
recipe=$(realpath "$(dirname "$0")/../fixtures/overlap.lua")
. "$(dirname "$0")/two_hosts.sh"
export OMP_NUM_THREADS=1
folder=$(mktemp -d)
trap 'unplug; rm -rf "$folder"' EXIT
cd "$folder"
bound=(bash -c 'exec taskset -c "${OMPI_COMM_WORLD_RANK:-$PMI_RANK}" "$@"' - "$cftrun" "$recipe" out=run "$@")
if [[ -n $rate ]]; then
  plug_in "$folder"
  for name in "$one" "$two"; do tc -n "$name" qdisc add dev cable root tbf rate "$rate" burst 256kb latency 50ms; done
  start=(on_hosts 1 1)
else
  start=(mpirun -np 2 --bind-to none)
  mpirun --version 2>&1 | grep -q "Open MPI" || start=(mpirun -np 2)
fi
"${start[@]}" "${bound[@]}" >said 2>&1 || { cat said; exit 1; }
mpirun --version 2>&1 | grep -m1 -E 'Open MPI|Version'
grep -a -A2 "steps of each kind" said | sed 's/.*\r.*\x1b\[K//'
echo "  load: $(cut -d' ' -f1-3 /proc/loadavg)"
