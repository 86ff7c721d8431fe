#!/usr/bin/env bash
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=128
#SBATCH --gpus-per-node=1
#SBATCH --exclusive
#SBATCH --time=01:00:00
#SBATCH --partition=batch
#SBATCH --account=my-project
#SBATCH --output=/project/results/dgx-slurm/logs/infer/cifar10_vgg16_bnn_n1_b128_base_r1.log
#SBATCH --no-requeue
#SBATCH --signal=B:TERM@60
# infer_cifar10_vgg16_bnn_n1_b128_base_r1 of campaign paper: bnn infer with 128 threads and a GPU on one node.
# The workflow submits this very file; by hand, from anywhere: bash results/dgx-slurm/jobs/infer_cifar10_vgg16_bnn_n1_b128_base_r1.sh
set -euo pipefail

cd /project
posteriors=(results/dgx-slurm/cells/cifar10/vgg16/bnn/nodes=1/batch=128/variant=base/repeat=1/posterior)
folder=results/dgx-slurm/infer/cifar10/vgg16/bnn/nodes=1/batch=128/variant=base/repeat=1

mkdir -p "$folder"

export PATH=/project/.venv/bin:"$PATH"
data_dir=/project/data
export BNN_DATA_DIR="${BNN_DATA_DIR:-$data_dir}"
export OMP_NUM_THREADS=128 MKL_NUM_THREADS=128 OPENBLAS_NUM_THREADS=128

# This process becomes the program: what it has waited for is none of that one's start-up.
BNN_STARTED_AT=$(date +%s.%N)
export BNN_STARTED_AT
# What an interrupted run has finished is kept; the summary is written last of all.
exec bnn infer "${posteriors[@]}" --dataset cifar10 --split test --mode exact --engine single --draws 1000 --seed 1 --threads 128 --device cuda --labels '{"batch_size": "128", "dataset": "cifar10", "job": "0561826cee988bce", "kind": "bnn", "model": "vgg16", "nodes": "1", "repeat": "1", "site": "dgx-slurm", "variant": "base"}' --out "$folder" </dev/null
