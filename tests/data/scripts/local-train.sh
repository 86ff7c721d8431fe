#!/usr/bin/env bash
# Cell synthetic_vgg16_bnn_n2_b16_base_r1 of campaign paper: 2 ranks x 1 thread on this machine.
# The workflow runs this very file; by hand, from anywhere: bash results/local/jobs/synthetic_vgg16_bnn_n2_b16_base_r1.sh
set -euo pipefail

cd /project
cell=synthetic_vgg16_bnn_n2_b16_base_r1
folder=results/local/cells/synthetic/vgg16/bnn/nodes=2/batch=16/variant=base/repeat=1
measuring=results/local/.locks/measuring
lock=results/local/.locks/synthetic_vgg16_bnn_n2_b16_base_r1.cell
log="$folder/job.log"
summary="$folder/summary.json"
kept="$folder/.finished.json"
profiles="$folder/.mpi"

# Whether summary $1 and the records beside it are of these settings and this launch; a summary is written last of all.
finished() {
  grep -Eqs '"hash": ?"aaab1ac0809e67db"' "$folder/cell.json" &&
    grep -Eqs '"hash": ?"aaab1ac0809e67db"' "$1" &&
    grep -Eqs '"launch": ?"cffabff6"' "$1"
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
    flock "$1"
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
# One measured job at a time on this machine, one job per cell. The launcher and its ranks inherit both locks:
# the kernel frees them when the last of these processes is gone, even if this script is killed before.
exec 8>>"$measuring"
hold 8 "$measuring"
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

export PATH=/project/.venv/bin:"$PATH"
data_dir=/project/data
export BNN_DATA_DIR="${BNN_DATA_DIR:-$data_dir}"
export OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1

# The log goes on when an attempt with the same settings is resumed.
if ! head -n 1 "$log" 2>/dev/null | grep -q 'settings aaab1ac0809e67db'; then
  : >"$log"
fi
echo "# job local $$ on $HOSTNAME, settings aaab1ac0809e67db, started $(date '+%F %T %z')" >>"$log"
rm -f "$kept"

# What every rank loads to have its MPI calls counted. Where that cannot be had, the log says so and the run goes on.
preload=(env)
if interposer=$(python -m bnn.mpi_trace prepare "$profiles" 2>>"$log"); then
  preload+=(LD_PRELOAD="$interposer" BNN_MPI_TRACE_DIR="$profiles" BNN_MPI_TRACE_JOBID="$$")
fi

status=0
mpiexec -n 2 "${preload[@]}" \
  bnn train --settings results/local/jobs/synthetic_vgg16_bnn_n2_b16_base_r1.json --out "$folder" \
  >>"$log" 2>&1 </dev/null &
launcher=$!
# Ends the launcher when its ranks make no progress, and names the late one in the log.
python -m bnn.watchdog "$folder" --ranks 2 --pid "$launcher" \
  --limit 600 --start-limit 1800 >>"$log" 2>&1 </dev/null 8>&- 9>&- &
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
