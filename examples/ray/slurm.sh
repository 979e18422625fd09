#!/bin/bash
# A comparison on several nodes of a Slurm cluster: sbatch examples/ray/slurm.sh CONFIG
# Ray's head and the driver run on the first node, workers on all of them.
# Every node needs the same Python with the same stepsynth[ray].
#SBATCH --job-name=stepsynth
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --time=12:00:00
# The driver gets this a minute before the end: it stops cleanly, and the same job goes on.
#SBATCH --signal=B:TERM@60
set -euo pipefail

config=$(realpath "$1")
port=6379
# One number for all nodes and for later jobs: the last digits of weights depend on it.
export OMP_NUM_THREADS=$SLURM_CPUS_PER_TASK
# Only nodes with this token can join or send work.
RAY_AUTH_TOKEN=$(python -c 'import secrets; print(secrets.token_hex(32))')
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN RAY_USAGE_STATS_ENABLED=0

mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
head=${nodes[0]}
address=$(srun --nodes=1 --ntasks=1 --nodelist="$head" hostname --ip-address | awk '{print $1}')

srun --nodes=1 --ntasks=1 --overlap --nodelist="$head" \
    ray start --head --node-ip-address="$address" --port=$port --num-cpus="$SLURM_CPUS_PER_TASK" \
    --include-dashboard=false --block &
sleep 15
if ((${#nodes[@]} > 1)); then
    srun --nodes=$((${#nodes[@]} - 1)) --ntasks=$((${#nodes[@]} - 1)) --overlap --exclude="$head" \
        ray start --address="$address:$port" --num-cpus="$SLURM_CPUS_PER_TASK" --block &
fi

# The run directories and the answers need a disk of the head node, not the cluster's network file system.
scratch=${SLURM_TMPDIR:-${TMPDIR:-/tmp}}/stepsynth-$USER
kept=$(dirname "$config")/runs-kept
mkdir -p "$scratch" "$kept"
# What a killed job left on this node is newer than what was kept.
if [ -d "$kept/comparison" ] && [ ! -d "$scratch/comparison" ]; then cp -a "$kept/." "$scratch/"; fi

STEPSYNTH_ANSWERS="$scratch/answers.db" stepsynth compare "$config" --on "ray:$address:$port" --out "$scratch/comparison" &
driver=$!
trap 'kill -TERM $driver' TERM
# A signal ends the first wait.
code=0
wait $driver || { wait $driver || code=$?; }
cp -a "$scratch/." "$kept/"
exit $code
