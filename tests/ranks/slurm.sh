#!/bin/bash
# Ranks that srun starts, by a Slurm of this machine alone:  tests/ranks/slurm.sh CFTRUN
# As root on Debian: installs slurm-wlm and munge where they are missing. Their daemons begin and end here, on free ports; all files are
# in a temporary folder. For each MPI whose module is beside CFTRUN two ranks make the weights of `--ranks 2`; and in a job
# one of them is killed, or stopped, the job is queued again by the line in docs/multi-gpu.md, and goes on to the same weights.
set -euo pipefail
cftrun=$(realpath "$1")
recipe=$(realpath "$(dirname "$0")/../fixtures/few_steps.lua")
command -v slurmctld slurmd srun munged >/dev/null ||
  { apt-get update && apt-get install -y --no-install-recommends slurm-wlm munge; } >/dev/null
export OMP_NUM_THREADS=1
folder=$(mktemp -d) daemons=()
finish() {
  [[ ${#daemons[@]} -eq 0 ]] || { scancel --user="$(id -un)" 2>/dev/null && sleep 1; }
  for pid in "${daemons[@]}"; do kill "$pid" 2>/dev/null && wait "$pid" || true; done
  rm -rf "$folder"
}
trap finish EXIT
cd "$folder"
chmod 755 .

free_port() {
  local port
  while port=$((20000 + RANDOM % 10000)); (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do :; done
  echo "$port"
}
host=$(uname -n); host=${host%%.*}
mkdir state spool
(umask 077; head -c 1024 /dev/urandom >munge.key)
cat >slurm.conf <<END
ClusterName=test
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
SlurmctldPort=$(free_port)
SlurmdPort=$(free_port)
AuthType=auth/munge
AuthInfo=socket=$folder/munge.socket,cred_expire=5
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmdParameters=config_overrides
NodeName=$host NodeAddr=127.0.0.1 CPUs=4 State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES State=UP
END
export SLURM_CONF=$folder/slurm.conf
munged --foreground --force --socket="$folder/munge.socket" --key-file="$folder/munge.key" --pid-file="$folder/munged.pid" \
  --seed-file="$folder/munge.seed" 2>munged.log & daemons+=($!)
for ((i = 0; i < 100; ++i)); do [[ -S munge.socket ]] && break; sleep 0.1; done
slurmctld -D >slurmctld.log 2>&1 & daemons=($! "${daemons[@]}")
slurmd -D >slurmd.log 2>&1 & daemons=($! "${daemons[@]}")
for ((i = 0; i < 300; ++i)); do [[ $(sinfo -h -o %t 2>/dev/null) == idle ]] && break; sleep 0.1; done
[[ $(sinfo -h -o %t) == idle ]] || { cat ./*.log; echo "FAIL  Slurm does not begin"; exit 1; }

failed=0
# result WHAT LOG CONDITION...: say whether it holds.
result() {
  local what=$1 log=$2; shift 2
  if "$@"; then echo "ok    $what"; else echo "FAIL  $what"; cat "$log"; failed=1; fi
}
same() { cmp -s "$1" "$2"; }
weights=model.safetensors
gone_on() { same "never/step-000012/$weights" "job/step-000012/$weights" && grep -q "rank 1 of 2 is lost: $1" job.said &&
            grep -q "resumed at step" job.said; }

# Lose rank 1 of a job by a signal, and wait for the job, which was queued again, to end.
lose() {
  rm -rf job job.said
  cat >job.sh <<END
#!/bin/bash
srun --kill-on-bad-exit --mpi=$plugin "$cftrun" "$recipe" out=job --continue steps=12 save_every=3 slow=0.2
code=\$?; echo "code \$code"; [ \$code = 6 -o \$code = 137 ] && scontrol requeue \$SLURM_JOB_ID
exit \$code
END
  local id pid i
  id=$(sbatch --parsable -n 2 --output=job.said --open-mode=append job.sh)
  for ((i = 0; i < 600; ++i)); do [[ -e job/step-000003/$weights ]] && break; sleep 0.05; done
  pid=$(grep -o '"pid": *[0-9]*' job/run.json | grep -o '[0-9]*' | sed -n 2p)
  kill -"$1" "$pid"
  for ((i = 0; i < 900; ++i)); do [[ -z $(squeue -h -j "$id" 2>/dev/null) || $(squeue -h -o %t -j "$id") == CD ]] && break; sleep 0.1; done
}

"$cftrun" --ranks 2 "$recipe" out=never steps=12 save_every=3 slow=0.2 >never.said 2>&1 || { cat never.said; exit 1; }
while read -r CFT_MPI plugin; do
  [[ -e $(dirname "$cftrun")/libcft_mpi_$CFT_MPI.so ]] || continue
  export CFT_MPI
  rm -rf run
  code=0
  srun -n 2 --mpi="$plugin" "$cftrun" "$recipe" out=run --continue steps=12 save_every=3 >said 2>&1 </dev/null || code=$?
  result "srun --mpi=$plugin and $CFT_MPI: the weights of --ranks 2" said same "never/step-000012/$weights" "run/step-000012/$weights"
  lose KILL
  result "the same, rank 1 killed: $(grep -m1 '^code' job.said), queued again, goes on to them" job.said gone_on "its process is gone"
  lose STOP
  result "the same, rank 1 stopped: $(grep -m1 '^code' job.said), queued again, goes on to them" job.said gone_on "nothing was heard"
done <<<"openmpi pmix
mpich pmi2"
exit $failed
