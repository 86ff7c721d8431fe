#!/usr/bin/env bash
#COBALT -n 128
#COBALT -t 180
#COBALT -q default
#COBALT -A my-project
#COBALT -O @PACK@/job
#COBALT --attrs mcdram=cache:numa=quad
#JOBSCRIPT --nodes 128 --minutes 180
# Several jobs of campaign paper in one, each on nodes of its own. The executor submits a copy with
# the folder of the job in place of the word between @ signs, and with its last line: what starts them.
set -euo pipefail

cd /project
module load PrgEnv-gnu
