#!/usr/bin/env bash
# One machine as a Slurm cluster of one node, for tests: slurm.sh start FOLDER, slurm.sh stop FOLDER.
# Keys, state and logs are in FOLDER; only the logs stay after stop, or after a start that failed. The configuration is
# the machine's, since jobs are not told of another; where there is one already, nothing is touched.
# Where Slurm cannot be had, it says why and ends with 77.
set -euo pipefail
folder=$2
conf=/etc/slurm/slurm.conf
ours="# made by tests/cluster/slurm.sh"
daemons="slurmd slurmctld munged"  # in the order in which they stop

skip() { echo "no Slurm here: $1" >&2; exit 77; }

there() { command -v slurmctld && command -v slurmd && command -v munged; } >/dev/null

packages() {
  command -v apt-get >/dev/null || skip "slurmctld is missing, and there is no apt-get to install it"
  export DEBIAN_FRONTEND=noninteractive
  { apt-get update && apt-get install -y --no-install-recommends slurm-wlm munge; } >"$folder/apt.log" 2>&1 ||
    skip "slurm-wlm and munge cannot be installed: $(tail -n 1 "$folder/apt.log")"
}

configure() {
  local host; host=$(hostname -s)
  mkdir -p "$folder/state" "$folder/spool" "$folder/munge" "$(dirname "$conf")"
  cat >"$conf" <<END
$ours
ClusterName=one
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket=$folder/munge/socket
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
ReturnToService=2
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
MinJobAge=300
KillWait=5
NodeName=$host NodeAddr=127.0.0.1 CPUs=$(nproc --all) RealMemory=$(awk '/MemTotal/ {print int($2 / 1024)}' /proc/meminfo)
PartitionName=one Nodes=$host Default=YES MaxTime=INFINITE State=UP
END
}

start() {
  mkdir -p "$folder"
  [ "$(id -u)" = 0 ] || skip "its daemons need root"
  [ ! -e "$conf" ] || grep -q "^$ours" "$conf" || skip "$conf is there already, of another one"
  there || packages
  earlier=$(sed -n 's|^StateSaveLocation=\(.*\)/state$|\1|p' "$conf" 2>/dev/null || true)
  [ -z "$earlier" ] || "$0" stop "$earlier"  # of a test that was killed
  trap stop EXIT  # unless the node gets ready
  configure
  dd if=/dev/urandom of="$folder/munge/key" bs=1024 count=1 status=none
  chmod 400 "$folder/munge/key"
  munged --force --socket="$folder/munge/socket" --key-file="$folder/munge/key" --seed-file="$folder/munge/seed" \
    --pid-file="$folder/munged.pid" --log-file="$folder/munged.log"
  slurmctld
  slurmd
  for _ in $(seq 60); do
    if [ "$(sinfo --noheader --format=%T 2>/dev/null)" = idle ]; then trap - EXIT; return; fi
    sleep 1
  done
  skip "its node does not get ready: $(tail -n 1 "$folder/slurmd.log")"
}

stop() {
  timeout 20 scancel --user=root --full --signal=KILL 2>/dev/null || true
  for _ in $(seq 20); do [ "$(squeue --noheader 2>/dev/null)" ] || break; sleep 0.5; done
  for daemon in $daemons; do
    local process; process=$(cat "$folder/$daemon.pid" 2>/dev/null) || continue
    kill "$process" 2>/dev/null || continue
    for _ in $(seq 20); do [ "$(ps -o state= -p "$process" | tr -d Z)" ] || break; sleep 0.5; done
  done
  rm -rf "$folder"/{state,spool,munge,*.pid}
  ! grep -qs "^$ours" "$conf" || rm "$conf"
}

"$1"
