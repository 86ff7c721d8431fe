"""`snakemake --lint`, less one demand: python .ci/lint_workflow.py SNAKEMAKE [OPTIONS]; exit code 1 when it finds more.

Snakemake wants a conda environment or a container for each rule. Rules here have none, because none was seen to work:
what they need is what `make setup` builds (envs/README.md), with Horovod and kernels compiled for the machine.
"""

import json
import subprocess
import sys

NOT_ASKED = "Specify a conda environment or container for each rule."


def found(output: str) -> list[str]:
    """Lines for a reader, from what `--lint json` prints."""
    lines = []
    for item in (item for items in json.loads(output).values() for item in items):
        place = ", ".join(f"{key} {value}" for key, value in item["for"].items())
        lines += [
            f"{place}: {lint['title']}\n    {lint['body']}" for lint in item["lints"] if lint["title"] != NOT_ASKED
        ]
    return lines


def main(command: list[str]) -> int:
    done = subprocess.run([*command, "--lint", "json"], stdout=subprocess.PIPE, text=True)
    start = done.stdout.find("{")
    if start < 0:  # the workflow was not even read: it has said why
        print(done.stdout, end="")
        return done.returncode or 1
    lines = found(done.stdout[start:])
    print(*lines, sep="\n", end="\n" if lines else "")
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
