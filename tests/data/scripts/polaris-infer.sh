#!/usr/bin/env bash
#PBS -l select=1:system=polaris
#PBS -l place=scatter
#PBS -l walltime=01:00:00
#PBS -q debug
#PBS -A my-project
#PBS -j oe
#PBS -o /project/results/polaris/logs/infer/cifar10_vgg16_bnn_n1_b128_base_r1.log
#PBS -r n
#PBS -S /bin/bash
#PBS -l filesystems=home:eagle
# infer_cifar10_vgg16_bnn_n1_b128_base_r1 of campaign paper: bnn infer with 32 threads and a GPU on one node.
# The workflow submits this very file; by hand, from anywhere: bash results/polaris/jobs/infer_cifar10_vgg16_bnn_n1_b128_base_r1.sh
set -euo pipefail

cd /project
posteriors=(results/polaris/cells/cifar10/vgg16/bnn/nodes=1/batch=128/variant=base/repeat=1/posterior)
folder=results/polaris/infer/cifar10/vgg16/bnn/nodes=1/batch=128/variant=base/repeat=1

mkdir -p "$folder"

# Files that make a site's modules known use variables that are not set, and commands that fail in passing.
set +euo pipefail
# A shell that is no login shell may not know module: these files define it.
for init in "${MODULESHOME:-}/init/bash" /etc/profile.d/{modules,lmod}.sh /usr/share/{lmod/lmod,modules,Modules}/init/bash; do
  type -t module >/dev/null && break
  if [ -r "$init" ]; then
    # shellcheck disable=SC1090
    . "$init"
  fi
done
if ! type -t module >/dev/null; then
  echo "module: this shell does not know it: name the file that defines it under site.environment.prepare" >&2
  exit 2
fi
set -eo pipefail
module load PrgEnv-gnu
module load cray-mpich
set -u
export PATH=/project/.venv/bin:"$PATH"
data_dir=/project/data
export BNN_DATA_DIR="${BNN_DATA_DIR:-$data_dir}"
export OMP_NUM_THREADS=32 MKL_NUM_THREADS=32 OPENBLAS_NUM_THREADS=32
export MPICH_GPU_SUPPORT_ENABLED=0
export NCCL_CROSS_NIC=1
export NCCL_NET_GDR_LEVEL=PHB

# This process becomes the program: what it has waited for is none of that one's start-up.
BNN_STARTED_AT=$(date +%s.%N)
export BNN_STARTED_AT
# What an interrupted run has finished is kept; the summary is written last of all.
exec bnn infer "${posteriors[@]}" --dataset cifar10 --split test --mode exact --engine single --draws 1000 --seed 1 --threads 32 --device cuda --labels '{"batch_size": "128", "dataset": "cifar10", "job": "e7d9464886e9e7a7", "kind": "bnn", "model": "vgg16", "nodes": "1", "repeat": "1", "site": "polaris", "variant": "base"}' --out "$folder" </dev/null
