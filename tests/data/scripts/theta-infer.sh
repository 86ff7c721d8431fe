#!/usr/bin/env bash
#COBALT -n 1
#COBALT -t 60
#COBALT -q debug-cache-quad
#COBALT -A my-project
#COBALT -O /project/results/theta/logs/infer/cifar10_vgg16_bnn_n1_b128_base_r1
#COBALT --attrs mcdram=cache:numa=quad
# infer_cifar10_vgg16_bnn_n1_b128_base_r1 of campaign paper: bnn infer with 64 threads on one node.
# The workflow submits this very file; by hand, from anywhere: bash results/theta/jobs/infer_cifar10_vgg16_bnn_n1_b128_base_r1.sh
set -euo pipefail

cd /project
posteriors=(results/theta/cells/cifar10/vgg16/bnn/nodes=1/batch=128/variant=base/repeat=1/posterior)
folder=results/theta/infer/cifar10/vgg16/bnn/nodes=1/batch=128/variant=base/repeat=1

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
set -u
export PATH=/project/.venv/bin:"$PATH"
data_dir=/project/data
export BNN_DATA_DIR="${BNN_DATA_DIR:-$data_dir}"
export OMP_NUM_THREADS=64 MKL_NUM_THREADS=64 OPENBLAS_NUM_THREADS=64
export KMP_AFFINITY=granularity=fine,compact,1,0
export KMP_BLOCKTIME=0
export MPICH_MAX_THREAD_SAFETY=multiple

# This process becomes the program: what it has waited for is none of that one's start-up.
BNN_STARTED_AT=$(date +%s.%N)
export BNN_STARTED_AT
# What an interrupted run has finished is kept; the summary is written last of all.
exec aprun -n 1 -N 1 -cc depth -d 64 -j 1 bnn infer "${posteriors[@]}" --dataset cifar10 --split test --mode exact --engine single --draws 1000 --seed 1 --threads 64 --labels '{"batch_size": "128", "dataset": "cifar10", "job": "23c6d067dd7ff062", "kind": "bnn", "model": "vgg16", "nodes": "1", "repeat": "1", "site": "theta", "variant": "base"}' --out "$folder" </dev/null
