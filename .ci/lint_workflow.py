"""`snakemake --lint`, less one demand: python .ci/lint_workflow.py [OPTIONS OF SNAKEMAKE].

Snakemake wants a conda environment or a container for each rule. Rules here have none, because none was seen to work:
what they need is what `make setup` builds, Horovod and the kernels for the machine included (envs/README.md).
"""

import sys

from snakemake.cli import main
from snakemake.linting.rules import RuleLinter

if __name__ == "__main__":
    del RuleLinter.lint_missing_software_definition
    main([*sys.argv[1:], "--lint"])
