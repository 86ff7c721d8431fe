"""python -m tests.architectures [NAME ...] [--jobs N]: every stage of these architectures, as a table.

--markdown prints the table as the documentation has it.
"""

from __future__ import annotations

import argparse

from tests.architectures.run import results
from tests.architectures.stages import DIFFERENT, STAGES, TRACEBACK
from tests.architectures.table import ARCHITECTURES

SIGNS = {"works": "yes", "refused": "refused", "traceback": "TRACEBACK", "different": "DIFFERENT", "not reached": "-"}


def main() -> int:
    """Prints outcomes as they come; exit code 1 where one is a traceback or a silent difference."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="parts of names; all architectures without")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--markdown", action="store_true")
    asked = parser.parse_args()
    names = [name for name in ARCHITECTURES if not asked.names or any(part in name for part in asked.names)]
    failed, works = 0, dict.fromkeys(STAGES, 0)
    if asked.markdown:
        print("|".join(["| network ", *(f" {stage} " for stage in STAGES), ""]))
        print("|---" * (len(STAGES) + 1) + "|")
    for name, outcomes in results(names, asked.jobs):
        words = [SIGNS[one["result"]] for one in outcomes]
        for one in outcomes:
            works[one["stage"]] += one["result"] == "works"
        if asked.markdown:
            print("|".join([f"| {name} ", *(f" {word} " for word in words), ""]), flush=True)
        else:
            seconds = sum(one["seconds"] for one in outcomes)
            print(f"{name:42s} {seconds:6.1f} s  " + " ".join(f"{word:9s}" for word in words), flush=True)
            for one in outcomes:
                if one["result"] not in ("works", "not reached"):
                    print(f"    {one['stage']}: {one['result']}: {one['detail']}", flush=True)
        failed += any(one["result"] in (TRACEBACK, DIFFERENT) for one in outcomes)
    print(f"{len(names)} networks; " + ", ".join(f"{stage} {count}" for stage, count in works.items()))
    return int(failed > 0)


if __name__ == "__main__":
    raise SystemExit(main())
