#!/usr/bin/env bash
# cluster/slurm.sh on a Slurm of two nodes, for real: network namespaces of this machine, each with its slurmd, and no names
# in any DNS. Run by hand (three minutes), not by `make test`: it needs root and packages that nothing else here needs.
#   bash tests/slurm.sh
# Its last output is in benchmarks/results/slurm.txt.
set -euo pipefail
cd "$(dirname "$0")/.."

missing=$(for each in slurmctld slurmd sbatch munged ip nsenter unshare runuser; do
  command -v $each >/dev/null || echo -n " $each"; done)
if [ "$(id -u)" != 0 ] || [ -n "$missing" ]; then
  echo "needs root, and Debian's packages slurm-wlm, munge, iproute2 and util-linux; missing:${missing:- root}" >&2
  exit 2
fi

net=10.79.0 bridge=slurmbr
work=$(mktemp -d /tmp/slurm.XXXXXX)
export SLURM_CONF="$work/slurm.conf" PYTHONPATH=$PWD
say() {
  local text="${*//$work/WORK}"
  echo "$(date -u +%H:%M:%S) ${text//$PWD/REPO}"
}
fail() { say "NOT HELD: $*"; tail -n 20 "$work"/*.log "$work"/job-*.txt 2>/dev/null || true; exit 1; }
wait_for() { # SECONDS WHAT COMMAND...
  local until=$((SECONDS + $1)) what=$2; shift 2
  until "$@" >/dev/null 2>&1; do [ $SECONDS -lt $until ] || fail "waited for $what in vain"; sleep 0.3; done
}

down() {
  trap - EXIT
  for pid in "$work"/*.pid; do kill "$(cat "$pid")" 2>/dev/null || true; done
  sleep 1
  for pid in "$work"/*.pid; do kill -9 "$(cat "$pid")" 2>/dev/null || true; done
  for n in 1 2; do ip netns del slurm$n 2>/dev/null || true; done
  ip link del $bridge 2>/dev/null || true
  rm -rf "$work"
}
trap down EXIT

# A key of its own, a socket of its own: a munged that runs here already is left alone.
chmod 755 "$work"
install -d -o munge -g munge -m 755 "$work/munge"
install -o munge -g munge -m 400 <(head -c 1024 /dev/urandom) "$work/munge/key"
runuser -u munge -- munged --socket="$work/munge/socket" --key-file="$work/munge/key" --pid-file="$work/munge/pid" \
  --log-file="$work/munge/log" --seed-file="$work/munge/seed"
cp "$work/munge/pid" "$work/munged.pid"

cat >"$SLURM_CONF" <<CONF
ClusterName=test
SlurmctldHost=$(hostname)($net.1)
SlurmctldPort=16817
SlurmdPort=16818
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket=$work/munge/socket
StateSaveLocation=$work/state
SlurmdSpoolDir=$work/spool-%n
SlurmctldPidFile=$work/slurmctld.pid
SlurmdPidFile=$work/slurmd-%n.pid
SlurmctldLogFile=$work/slurmctld.log
SlurmdLogFile=$work/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
MpiDefault=none
ReturnToService=2
NodeName=node1 NodeAddr=$net.11 CPUs=1
NodeName=node2 NodeAddr=$net.12 CPUs=1
PartitionName=all Nodes=node1,node2 Default=YES MaxTime=INFINITE State=UP
PartitionName=other Nodes=node1,node2 MaxTime=INFINITE State=UP
CONF

ip link add $bridge type bridge
ip addr add $net.1/24 dev $bridge
ip link set $bridge up
mkdir "$work/state"
slurmctld
for n in 1 2; do
  ip netns add slurm$n
  ip link add slurm$n type veth peer name eth0 netns slurm$n
  ip link set slurm$n master $bridge up
  ip -n slurm$n addr add $net.1$n/24 dev eth0
  ip -n slurm$n link set eth0 up
  ip -n slurm$n link set lo up
  mkdir -p "$work/spool-node$n" "$work/ray$n" /tmp/ray
  nsenter --net=/run/netns/slurm$n unshare --uts --mount sh -c \
    "hostname node$n; mount --bind $work/ray$n /tmp/ray; exec slurmd -N node$n"
done
both_idle() { [ "$(sinfo --noheader --states=idle --format=%D)" = 2 ]; }
wait_for 30 "both nodes" both_idle
say "Slurm $(sinfo --version | cut -d' ' -f2), two nodes of one CPU"

cat >"$work/sweep.yaml" <<SWEEP
name: sweep
task: flat
simulator: fake
search: {trials: 6, parameters: {learning_rate: {log_uniform: [1.0e-4, 1.0e-2]}}, fixed: {env.step_seconds: 0.02}}
budget: {unit: iterations, max: 40}
early_stopping: {scheduler: none}
resources: {gpus: 0, cpus: 1}
baseline: false
final: {finalists: 1, envs: 12, seeds: 1, exam_seconds: 1, video: false}
storage: $work/runs
SWEEP

# Without GPUs, with one CPU, and with its output elsewhere; all else is as it is in cluster/slurm.sh.
sed -e '/gpus-per-node/d' -e 's/cpus-per-task=32/cpus-per-task=1/' -e "s|--output=.*|--output=$work/job-%j.txt|" \
  cluster/slurm.sh >"$work/slurm.sh"
[ ! -x .venv/bin/python ] || PATH=$PWD/.venv/bin:$PATH
sed -i "s|\$PWD/.venv/bin|$(dirname "$(command -v python)")|" "$work/slurm.sh"
submit() { sbatch --parsable "$work/slurm.sh" "$@"; }
state() { scontrol show job "$1" | sed -n 's/.*JobState=\([A-Z]*\).*/\1/p'; }
code() { scontrol show job "$1" | sed -n 's/.*ExitCode=\([0-9]*\):.*/\1/p'; }
is_over() { [[ $(state "$1") != RUNNING && $(state "$1") != PENDING && $(state "$1") != COMPLETING ]]; }
rays() { pgrep -f "$work|raylet/raylet|gcs_server" -a | grep -E "raylet/raylet|gcs_server" | grep -c "$net" || true; }
none_left() { [ "$(rays)" = 0 ]; }

began=$SECONDS
job=$(submit run "$work/sweep.yaml")
say "job $job: a sweep of six trials"
used_both() { grep -q node1 "$work/runs/sweep/timeline.jsonl" && grep -q node2 "$work/runs/sweep/timeline.jsonl"; }
wait_for 120 "trials on both nodes" used_both
[ "$(rays)" = 3 ] || fail "$(rays) processes of Ray, and a head and two raylets were expected"
say "trials run on both nodes"
wait_for 240 "its end" is_over "$job"
[ "$(state "$job") $(code "$job")" = "COMPLETED 0" ] || fail "the sweep ended $(state "$job") with $(code "$job")"
grep -q '"phase": "finished"' "$work/runs/sweep/result.json" || fail "result.json does not say that it finished"
say "job $job: $(state "$job") with exit code 0 after $((SECONDS - began)) s; $(grep Done "$work/job-1.txt")"
wait_for 30 "Ray's processes to go" none_left
say "no process of Ray is left"

job=$(submit run "$work/no_such.yaml" --storage "$work/runs")
wait_for 120 "the end of a job with bad input" is_over "$job"
[ "$(state "$job") $(code "$job")" = "FAILED 2" ] || fail "bad input ended $(state "$job") with $(code "$job")"
say "job $job: $(state "$job") with exit code 2, as the sweep: $(grep ^error: "$work/job-2.txt")"

# A long one: node2 is cut off until it has been declared dead, and comes back; then the job is told to end.
sed -i 's/max: 40/max: 4000/; s/name: sweep/name: long/' "$work/sweep.yaml"
quick=RAY_health_check_initial_delay_ms=1000,RAY_health_check_period_ms=1000,RAY_health_check_timeout_ms=2000
job=$(SBATCH_EXPORT="ALL,$quick,RAY_health_check_failure_threshold=3" SBATCH_PARTITION=other SBATCH_TIMELIMIT=3:00:00 \
  submit run "$work/sweep.yaml")
joined() { [ "$(grep -c 'Ray runtime started' "$work/job-3.txt")" -ge "$1" ]; }
wait_for 120 "trials on both nodes" test -s "$work/runs/long/trials/0001/logs.csv"
wait_for 30 "node2 to join" joined 2
ip link set slurm2 down
began=$SECONDS
said_dead() { grep -q "its actor died" "$work/job-3.txt"; }
wait_for 90 "node2 to be declared dead" said_dead
say "job $job: node2 was cut off, and declared dead after $((SECONDS - began)) s"
ip link set slurm2 up
began=$SECONDS
wait_for 180 "node2 to rejoin" joined 3
say "job $job: node2 joined again $((SECONDS - began)) s after the cut had ended"
scancel --batch --signal=TERM "$job"
wait_for 120 "the end of the job that was told to" is_over "$job"
[ "$(code "$job")" = 130 ] || fail "the job that was told to end ended with $(code "$job")"
say "job $job: told to end, exit code 130: $(grep "go on:" "$work/job-3.txt")"
wait_for 30 "Ray's processes to go" none_left

lines() { cat "$work"/runs/long/trials/*/logs.csv | wc -l; }
before=$(lines)
go_on=$(python -m go1_sweep status "$work/runs/long" | sed -n 's/^interrupted; go on: \(.*\); for .*/\1/p')
grep -qF "go on: $go_on;" "$work/job-3.txt" || fail "status says to go on by $go_on"
job=$(cd / && $go_on | grep -o '[0-9]*$')
[[ $(scontrol show job "$job") = *Partition=other* && $(scontrol show job "$job") = *TimeLimit=03:00:00* ]] ||
  fail "sbatch was told another partition and another time: $go_on"
went_on() { [ "$(lines)" -gt $((before + 20)) ]; }
wait_for 120 "the next job to go on with the sweep" went_on
say "job $job: goes on with it, from $before lines of logs.csv to $(lines)"
refused=$(python -m go1_sweep stop "$work/runs/long" 2>&1) && fail "stop ended it from another machine: $refused"
say "stop, on no node: $refused"
${refused##*, or }
wait_for 120 "its end" is_over "$job"
[ "$(code "$job")" = 130 ] || fail "the job that was told to end ended with $(code "$job")"
wait_for 30 "Ray's processes to go" none_left
say "all held"
