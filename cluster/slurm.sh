#!/usr/bin/env bash
# Slurm: a sweep on all nodes of an allocation. Its first node also runs the driver; the job ends with the sweep, with the
# same exit code. From the top folder of the repository, which all nodes see, and after `make setup` there:
#   sbatch cluster/slurm.sh run search_spaces/rough.yaml --storage /shared/runs
#   sbatch cluster/slurm.sh resume /shared/runs/go1-rough
#   scancel --batch --signal=TERM JOB      # ends it as Ctrl-C does: each trial publishes a checkpoint
# CHANGE to your machines (an option of sbatch goes before a line here):
#SBATCH --job-name=go1-sweep
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=32
#SBATCH --gpus-per-node=4
#SBATCH --time=12:00:00
#SBATCH --output=%x-%j.txt
# Ten minutes before --time is over the sweep is told to end; `resume` goes on with it.
#SBATCH --signal=B:TERM@600
# Where a node fails, the others go on.
#SBATCH --no-kill
set -euo pipefail

if [ $# -eq 0 ]; then
  set -- run search_spaces/rough.yaml --storage /shared/runs     # CHANGE: what sbatch is given goes instead
fi
export PATH="$PWD/.venv/bin:$PATH"       # CHANGE, if the installation is elsewhere: one for all nodes

# For this job's Ray alone; srun hands both on to the other nodes.
RAY_AUTH_TOKEN=$(python -c 'import secrets; print(secrets.token_hex(32))')
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN

# An address, not a name: nodes need not know each other's. CHANGE, if they reach each other over another interface.
address=$(hostname --all-ip-addresses | cut -d' ' -f1)
export HEAD="$address:$((20000 + SLURM_JOB_ID % 10000))"

# This job's Ray is gone with it. Hence what a sweep, `status` and `stop` say is what helps then, typed on any machine that
# submits jobs; they put the sweep's folder into the first. What sbatch was told that the lines above do not say goes along.
script=$(scontrol show job "$SLURM_JOB_ID" | sed -n 's/^ *Command=\([^ ]*\).*/\1/p')
again="sbatch --chdir=$PWD"
for option in "partition=${SLURM_JOB_PARTITION:-}" "account=${SLURM_JOB_ACCOUNT:-}" "qos=${SLURM_JOB_QOS:-}" \
  "reservation=${SLURM_JOB_RESERVATION:-}" "nodes=$SLURM_JOB_NUM_NODES" "cpus-per-task=${SLURM_CPUS_PER_TASK:-}" \
  "gpus-per-node=${SLURM_GPUS_PER_NODE:-}" "mem=${SLURM_MEM_PER_NODE:-}" \
  "time=$(squeue --noheader --format=%l --job="$SLURM_JOB_ID")"; do
  [[ $option = *= ]] || grep -q "^#SBATCH --$option$" "$script" || again+=" --$option"
done
export GO1_SWEEP_RESUME="$again $script resume {folder}"
export GO1_SWEEP_STOP="scancel --batch --signal=TERM $SLURM_JOB_ID"

# Whatever happens, nothing is left: srun ends its tasks, `ray start --block` what it started.
trap 'trap - EXIT; kill $(jobs -p) 2>/dev/null || true; wait' EXIT

# The dashboard is on 127.0.0.1 of the first node: ssh -L 8265:127.0.0.1:8265 NODE brings it to http://localhost:8265.
ray start --head --port="${HEAD##*:}" --node-ip-address="$address" --num-cpus="$SLURM_CPUS_ON_NODE" \
  --dashboard-host=127.0.0.1 --disable-usage-stats --block &
head=$!
until (: <"/dev/tcp/${HEAD%:*}/${HEAD##*:}") 2>/dev/null; do
  kill -0 "$head" 2>/dev/null || { echo "Ray's head did not start" >&2; exit 1; }
  sleep 1
done

# A raylet that was declared dead, after a cut, ends itself and never comes back: hence the loop.
if [ "$SLURM_JOB_NUM_NODES" -gt 1 ]; then
  srun --nodes=$((SLURM_JOB_NUM_NODES - 1)) --ntasks=$((SLURM_JOB_NUM_NODES - 1)) --exclude="$SLURMD_NODENAME" \
    --cpus-per-task="$SLURM_CPUS_ON_NODE" --kill-on-bad-exit=0 --wait=0 bash -c '
      while true; do
        ray start --address="$HEAD" --num-cpus="$SLURM_CPUS_ON_NODE" --disable-usage-stats --block || true
        sleep 5
      done' &
fi

told= code=0
python -m go1_sweep "$@" --address "$HEAD" &
sweep=$!
trap 'told=1; kill -TERM "$sweep"' TERM
wait "$sweep" || code=$?
if [ -n "$told" ]; then                   # the signal ended `wait`, not the sweep
  code=0
  wait "$sweep" || code=$?
fi
exit "$code"
