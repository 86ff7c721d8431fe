#!/usr/bin/env bash
#COBALT -n 128
#COBALT -t 180
#COBALT -q default
#COBALT -A my-project
#COBALT -O @PACK@/job
#COBALT --attrs mcdram=cache:numa=quad
#BATCH_SCRIPT --nodes 128 --minutes 180
# Several jobs of campaign paper in one, each on nodes of its own. The executor submits a copy with
# the folder of the job in place of the word between @ signs, and with its last line: what starts them.
set -euo pipefail

cd /project
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
