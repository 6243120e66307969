# Two network namespaces as two hosts, a cable between them: sourced, as root with CAP_NET_ADMIN and CAP_SYS_ADMIN.
#   plug_in FOLDER      makes them, and in FOLDER the remote agent of mpirun
#   on_hosts N WORD...  N ranks of a program by the mpirun of PATH, the last one on host two, the others on host one
#   unplug              ends what runs there, and removes them

export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
one=cft-one-$$ two=cft-two-$$

plug_in() {
  local name address
  ip netns add "$one" && ip netns add "$two" ||
    { echo "FAIL  network namespaces want root with CAP_NET_ADMIN and CAP_SYS_ADMIN"; return 1; }
  ip -n "$one" link add cable type veth peer name cable netns "$two"
  while read -r name address; do
    ip -n "$name" addr add "$address/24" dev cable
    ip -n "$name" link set lo up
    ip -n "$name" link set cable up
    ip netns exec "$name" sysctl -qw net.ipv4.tcp_retries2=5  # mpirun gives the other host up after 12 s, not a quarter of an hour
  done <<<"$one 10.77.0.1
$two 10.77.0.2"
  # mpirun calls it with a host and a command.
  agent=$1/agent
  cat >"$agent" <<END
#!/bin/bash
shift
exec ip netns exec $two unshare --uts bash -c 'echo two >/proc/sys/kernel/hostname; eval "\$*"' - "\$@"
END
  chmod +x "$agent"
}

on_hosts() {
  local n=$1 words; shift
  words=(mpirun --host "10.77.0.1:$((n - 1)),10.77.0.2:1" -np "$n" --bind-to none --mca plm_rsh_agent "$agent" --mca btl tcp,self)
  mpirun --version 2>&1 | grep -q "Open MPI" ||
    words=(mpirun -np "$n" -hosts "10.77.0.1:$((n - 1)),10.77.0.2:1" -launcher ssh -launcher-exec "$agent")
  # UCX, which MPICH calls, would take the two for one host.
  UCX_TLS=tcp,self ip netns exec "$one" unshare --uts bash -c 'echo one >/proc/sys/kernel/hostname; exec "$@"' - "${words[@]}" "$@"
}

unplug() {
  local name pid
  for name in "$one" "$two"; do
    for pid in $(ip netns pids "$name" 2>/dev/null); do kill -9 "$pid" 2>/dev/null || true; done
    ip netns del "$name" 2>/dev/null || true
  done
}
