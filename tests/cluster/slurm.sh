#!/usr/bin/env bash
# One machine as a Slurm cluster of one node, for tests: slurm.sh start FOLDER, slurm.sh stop FOLDER.
# State and logs are in FOLDER. The configuration is the machine's, since jobs are not told of another; where there is one
# already, nothing is touched.
# Where Slurm cannot be had, it says why and ends with 77.
set -euo pipefail
folder=$2
conf=/etc/slurm/slurm.conf
ours="# made by tests/cluster/slurm.sh"

skip() { echo "no Slurm here: $1" >&2; exit 77; }

packages() {
  [ "$(id -u)" = 0 ] || skip "its daemons need root"
  command -v apt-get >/dev/null || skip "slurmctld is missing, and there is no apt-get to install it"
  { apt-get update && apt-get install -y --no-install-recommends slurm-wlm munge; } >"$folder/apt.log" 2>&1 ||
    skip "slurm-wlm and munge cannot be installed: $(tail -n 1 "$folder/apt.log")"
}

configure() {
  local host; host=$(hostname -s)
  mkdir -p "$folder/state" "$folder/spool"
  cat >"$conf" <<END
$ours
ClusterName=one
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
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
KillWait=5
NodeName=$host NodeAddr=127.0.0.1 CPUs=$(nproc --all) RealMemory=$(awk '/MemTotal/ {print int($2 / 1024)}' /proc/meminfo)
PartitionName=one Nodes=$host Default=YES MaxTime=INFINITE State=UP
END
}

start() {
  mkdir -p "$folder"
  command -v slurmctld >/dev/null && command -v slurmd >/dev/null && command -v munged >/dev/null || packages
  [ "$(id -u)" = 0 ] || skip "its daemons need root"
  [ ! -f "$conf" ] || grep -q "^$ours" "$conf" || skip "$conf is of another one"
  configure
  install -d -o munge -g munge -m 0755 /run/munge
  [ -S /run/munge/munge.socket.2 ] && munge -n >/dev/null 2>&1 || runuser -u munge -- munged --force
  slurmctld
  slurmd
  for _ in $(seq 30); do
    sinfo --noheader --format=%T 2>/dev/null | grep -q idle && return
    sleep 1
  done
  skip "its node does not get ready: $(tail -n 1 "$folder/slurmd.log")"
}

stop() {
  for daemon in slurmd slurmctld; do
    [ ! -f "$folder/$daemon.pid" ] || kill "$(cat "$folder/$daemon.pid")" || true
  done
  ! grep -q "^$ours" "$conf" || rm "$conf"
}

"$1"
