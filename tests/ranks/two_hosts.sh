# Two network namespaces as two hosts, a cable between them: sourced, as root with CAP_NET_ADMIN and CAP_SYS_ADMIN.
#   plug_in FOLDER          makes them, and in FOLDER what calls a program on one of them
#   on_host one|two WORD... a program there
#   on_hosts N M WORD...    N ranks of a program on host one and M on host two, by the mpirun of PATH
#   cut_cable RUN JOB       when the run in the folder RUN, which the process JOB has started, has made some steps; sets `pids` of its
#                           ranks, `gone` and `ended`, ms until they and the job had ended, at most a minute, and `code` of that
#   unplug                  ends what runs there, and removes them

export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
one=cft-one-$$ two=cft-two-$$

plug_in() {
  local name address host
  ip netns add "$one" && ip netns add "$two" ||
    { echo "FAIL  network namespaces want root with CAP_NET_ADMIN and CAP_SYS_ADMIN"; return 1; }
  ip -n "$one" link add cable type veth peer name cable netns "$two"
  agent=$1/agent
  while read -r host name address; do
    ip -n "$name" addr add "$address/24" dev cable
    ip -n "$name" link set lo up
    ip -n "$name" link set cable up
    ip netns exec "$name" sysctl -qw net.ipv4.tcp_retries2=5  # mpirun gives the other host up after 12 s, not a quarter of an hour
    cat >"$1/on-$host" <<END
#!/bin/bash
exec ip netns exec $name unshare --uts bash -c 'echo $host >/proc/sys/kernel/hostname; exec "\$@"' - "\$@"
END
  done <<<"one $one 10.77.0.1
two $two 10.77.0.2"
  # mpirun calls it with options of ssh's, a host and a command.
  cat >"$agent" <<END
#!/bin/bash
while [[ \$1 == -* ]]; do shift; done
shift
exec "$1/on-two" bash -c "\$*"
END
  chmod +x "$agent" "$1/on-one" "$1/on-two"
}

on_host() { "${agent%/*}/on-$1" "${@:2}"; }

on_hosts() {
  local n=$1 m=$2 words; shift 2
  words=(mpirun --host "10.77.0.1:$n,10.77.0.2:$m" -np $((n + m)) --bind-to none --mca plm_rsh_agent "$agent" --mca btl tcp,self)
  mpirun --version 2>&1 | grep -q "Open MPI" ||
    words=(mpirun -np $((n + m)) -hosts "10.77.0.1:$n,10.77.0.2:$m" -iface cable -launcher ssh -launcher-exec "$agent")
  # UCX, which MPICH calls, would take the two for one host.
  UCX_TLS=tcp,self on_host one "${words[@]}" "$@"
}

cut_cable() {
  local i from
  for ((i = 0; i < 600; ++i)); do [[ -s $1/log.jsonl ]] && (($(grep -c '"step"' "$1/log.jsonl") > 5)) && break; sleep 0.05; done
  mapfile -t pids < <(grep -o '"pid": *[0-9]*' "$1/run.json" | grep -o '[0-9]*')
  ip -n "$one" link set cable down
  from=$(date +%s%N)
  ms() { echo $((($(date +%s%N) - from) / 1000000)); }
  alive() { local p; for p in "${pids[@]}"; do kill -0 "$p" 2>/dev/null && return 0; done; return 1; }
  while alive && (($(ms) < 60000)); do sleep 0.05; done
  gone=$(ms)
  while kill -0 "$2" 2>/dev/null && (($(ms) < 60000)); do sleep 0.1; done
  ended=$(ms)
  kill -0 "$2" 2>/dev/null && unplug
  code=0; wait "$2" || code=$?
}

unplug() {
  local name pid
  for name in "$one" "$two"; do
    for pid in $(ip netns pids "$name" 2>/dev/null); do kill -9 "$pid" 2>/dev/null || true; done
    ip netns del "$name" 2>/dev/null || true
  done
}
