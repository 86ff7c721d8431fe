#!/usr/bin/env bash
# infer_cifar10_vgg16_bnn_n1_b128_base_r1 of campaign paper: bnn infer with 16 threads and a GPU on this machine.
# The workflow runs this very file; by hand, from anywhere: bash results/workstation/jobs/infer_cifar10_vgg16_bnn_n1_b128_base_r1.sh
set -euo pipefail

cd /project
name=infer_cifar10_vgg16_bnn_n1_b128_base_r1
measuring=results/workstation/.locks/measuring
posteriors=(results/workstation/cells/cifar10/vgg16/bnn/nodes=1/batch=128/variant=base/repeat=1/posterior)
folder=results/workstation/infer/cifar10/vgg16/bnn/nodes=1/batch=128/variant=base/repeat=1

mkdir -p "$folder"
# One measured job at a time on this machine. What this script starts inherits the lock: the kernel frees it when the
# last of these processes is gone, even if this script is killed before.
mkdir -p "${measuring%/*}"
exec 8>>"$measuring"
code=0
said=$(flock -n 8 2>&1) || code=$?
if [ "$code" -gt 1 ]; then # 1: another process has it; else the file system knows no such locks
  echo "$name: $measuring: cannot be locked here (${said:-exit code $code}): give site.locks a folder on a file system with flock" >&2
  exit 2
elif [ "$code" = 1 ]; then
  holder=$(cat "$measuring")
  echo "$name: waiting for ${holder:-another job}"
  flock 8
fi
echo "$name, process $$ on $HOSTNAME since $(date '+%F %T')" >"$measuring"

export PATH=/project/.venv/bin:"$PATH"
data_dir=/project/data
export BNN_DATA_DIR="${BNN_DATA_DIR:-$data_dir}"
export OMP_NUM_THREADS=16 MKL_NUM_THREADS=16 OPENBLAS_NUM_THREADS=16

# This process becomes the program: what it has waited for is none of that one's start-up.
BNN_STARTED_AT=$(date +%s.%N)
export BNN_STARTED_AT
# What an interrupted run has finished is kept; the summary is written last of all.
exec bnn infer "${posteriors[@]}" --dataset cifar10 --split test --mode exact --engine single --draws 1000 --seed 1 --threads 16 --device cuda --labels '{"batch_size": "128", "dataset": "cifar10", "job": "148d839452186a0e", "kind": "bnn", "model": "vgg16", "nodes": "1", "repeat": "1", "site": "workstation", "variant": "base"}' --out "$folder" </dev/null
