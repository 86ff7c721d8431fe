#!/usr/bin/env bash
#COBALT -n 128
#COBALT -t 180
#COBALT -q default
#COBALT -A my-project
#COBALT -O /project/results/theta/logs/train/cifar10_vgg16_bnn_n16_b128_base_r1
#COBALT --attrs mcdram=cache:numa=quad
#BATCH_SCRIPT --pack /project/results/theta/jobs/pack_default_n128_m180_1x128.sh --nodes 16 --minutes 180
# Cell cifar10_vgg16_bnn_n16_b128_base_r1 of campaign paper: 16 ranks x 128 threads on 16 nodes.
# The workflow submits this very file; by hand, from anywhere: bash results/theta/jobs/cifar10_vgg16_bnn_n16_b128_base_r1.sh
set -euo pipefail

cd /project
cell=cifar10_vgg16_bnn_n16_b128_base_r1
folder=results/theta/cells/cifar10/vgg16/bnn/nodes=16/batch=128/variant=base/repeat=1
lock=results/theta/.locks/cifar10_vgg16_bnn_n16_b128_base_r1.cell
log="$folder/job.log"
summary="$folder/summary.json"
kept="$folder/.finished.json"
profiles="$folder/.mpi"

# Whether summary $1 and the records beside it are of these settings and this launch; a summary is written last of all.
finished() {
  grep -Eqs '"hash": ?"a04f31fcc083dc38"' "$folder/cell.json" &&
    grep -Eqs '"hash": ?"a04f31fcc083dc38"' "$1" &&
    grep -Eqs '"launch": ?"d3bdd2ea"' "$1"
}

# Wait for the lock on open file $1, whose file $2 says who holds it.
hold() {
  local code=0 said
  said=$(flock -n "$1" 2>&1) || code=$?
  if [ "$code" -gt 1 ]; then # 1: another process has it; else the file system knows no such locks
    echo "$cell: $2: cannot be locked here (${said:-exit code $code}): give site.locks a folder on a file system with flock" >&2
    exit 2
  elif [ "$code" = 1 ]; then
    holder=$(cat "$2")
    echo "$cell: waiting for ${holder:-another job}"
    # the last processes of an attempt that was ended take a moment; nodes are too dear to wait longer
    flock -w 120 "$1" || { echo "$cell: still held by ${holder:-another job}" >&2; exit 75; }
  fi
  echo "cell $cell, process $$ on $HOSTNAME since $(date '+%F %T')" >"$2"
}

# Keep what the ranks left of MPI profiles, or the reason why there are none: no cell fails for want of a profile.
keep_profiles() {
  if [ -d "$profiles" ]; then
    PATH=/project/.venv/bin:"$PATH" python -m bnn.mpi_trace keep "$profiles" "$folder/mpi" \
      >>"$log" 2>&1 || true
    touch "$summary" # tables that were made without the profiles are out of date
  fi
}

mkdir -p "$folder" "${lock%/*}"
# One job per cell. The launcher inherits the lock: the kernel frees it when the last of these processes is gone,
# even if this script is killed before.
exec 9>>"$lock"
hold 9 "$lock"
# Snakemake deletes the summary of a job that it starts, even if another process has just finished that job.
if finished "$kept"; then
  ln -f "$kept" "$summary"
fi
if finished "$summary"; then
  keep_profiles
  echo "$cell: already finished"
  exit 0
fi

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
export OMP_NUM_THREADS=128 MKL_NUM_THREADS=128 OPENBLAS_NUM_THREADS=128
export KMP_AFFINITY=granularity=fine,compact,1,0
export KMP_BLOCKTIME=0
export MPICH_MAX_THREAD_SAFETY=multiple

# The log goes on when an attempt with the same settings is resumed.
if ! head -n 1 "$log" 2>/dev/null | grep -q 'settings a04f31fcc083dc38'; then
  : >"$log"
fi
echo "# job cobalt ${COBALT_JOBID:-by hand} on ${COBALT_PARTNAME:-$HOSTNAME}${BATCH_SCRIPT_PACK:+, in $BATCH_SCRIPT_PACK}, settings a04f31fcc083dc38, started $(date '+%F %T %z')" >>"$log"
rm -f "$kept"

# What every rank loads to have its MPI calls counted. Where that cannot be had, the log says so and the run goes on.
preload=(env)
if interposer=$(python -m bnn.mpi_trace prepare "$profiles" 2>>"$log"); then
  preload+=(LD_PRELOAD="$interposer" BNN_MPI_TRACE_DIR="$profiles" BNN_MPI_TRACE_JOBID="$$")
fi

status=0
aprun -n 16 -N 1 -cc depth -d 128 -j 2 "${preload[@]}" \
  bnn train --settings results/theta/jobs/cifar10_vgg16_bnn_n16_b128_base_r1.json --out "$folder" \
  >>"$log" 2>&1 </dev/null &
launcher=$!
# Ends the launcher when its ranks make no progress, and names the late one in the log.
python -m bnn.watchdog "$folder" --ranks 16 --pid "$launcher" \
  --limit 900 --start-limit 1800 >>"$log" 2>&1 </dev/null 9>&- &
watchdog=$!
trap 'kill -TERM "$launcher" 2>/dev/null || true' INT TERM HUP
wait "$launcher" || status=$?
while kill -0 "$launcher" 2>/dev/null; do # a signal cut the wait short: let the launcher end its ranks
  wait "$launcher" || status=$?
done

if finished "$summary"; then
  kill "$watchdog" 2>/dev/null || true
  ln -f "$summary" "$kept"
  keep_profiles
  exit 0
fi
watched=0
wait "$watchdog" || watched=$?
if [ "$watched" = 3 ]; then
  status=70 # to be told from a failure of the ranks, and from a mistake (2), which is not tried again
  echo "$cell: ended by the watchdog" >&2
fi
echo "$cell: failed with exit status $status, log: $log" >&2
tail -n 15 "$log" | sed 's/^/    /' >&2
exit $((status == 0 ? 1 : status))
