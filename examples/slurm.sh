#!/bin/bash
# A prediction on SLURM: one job runs the command and Dask's scheduler, an array of jobs works for it.
#
#     sbatch examples/slurm.sh MODEL COARSE ENSEMBLE.zarr
#
# Copy it, and change partition, time, cores and memory to your cluster's. The folder must be one that all nodes see.
# It may be stopped at any moment and given again: --resume goes on from what is finished.
#SBATCH --job-name=finescale
#SBATCH --time=24:00:00
#SBATCH --cpus-per-task=2
#SBATCH --mem=8G
set -euo pipefail
model=$1 coarse=$2 ensemble=$3
workers=${WORKERS:-32} cores=${CORES:-8} memory=${MEMORY:-8G}

# The scheduler writes its address into a file, which workers wait for.
address=$PWD/scheduler-$SLURM_JOB_ID.json
dask scheduler --scheduler-file "$address" &
scheduler=$!

# One task at a time in each worker, whose networks use all its cores: that takes the least memory.
jobs=$(sbatch --parsable --job-name=finescale-worker --array=1-"$workers" --time=24:00:00 \
  --cpus-per-task="$cores" --mem="$memory" --requeue \
  --export=ALL,OMP_NUM_THREADS="$cores" \
  --wrap "dask worker --scheduler-file '$address' --nthreads 1 --memory-limit 0 --death-timeout 600")
trap 'scancel "$jobs"; kill "$scheduler"; rm -f "$address"' EXIT

until [ -s "$address" ]; do sleep 1; done
finescale downscale "$model" "$coarse" -o "$ensemble" --members 16 --resume \
  --scheduler "$(python -c 'import json, sys; print(json.load(open(sys.argv[1]))["address"])' "$address")"
