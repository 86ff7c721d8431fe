"""What the steps have in common: how scripts run them, and how they read tables.

Light on purpose: nothing is computed, and no large library loaded, before the site's measuring lock is held.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from contextlib import nullcontext
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bnn.errors import UserError
from bnn.records.columns import read_table
from campaign.io.locking import shared
from campaign.results.tables.schemas import OF_REPORT

if TYPE_CHECKING:
    import pandas as pd


def run(module: str, snakemake: Any) -> None:
    """Run `main(snakemake)` of a module: one step of the workflow.

    Parameter `measuring` is the lock that a job of this machine holds while it is measured, empty where a scheduler
    places jobs elsewhere. The step shares it: it computes beside others of its kind, and never beside a measurement.
    Ends with one clear line and code 2 on a mistake of the user's.
    """
    lock = snakemake.params.get("measuring", "")
    try:
        with shared(Path(lock), Path(snakemake.output[0]).name) if lock else nullcontext():
            import_module(module).main(snakemake)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None


def read_tables(paths: Iterable[str]) -> dict[str, pd.DataFrame]:
    """Tables by name; a file's stem is its table's name. Raises UserError naming a file that is not its table."""
    read = {}
    for path in map(Path, paths):
        if path.stem not in OF_REPORT:
            raise UserError(f"{path}: no table is called {path.stem}")
        read[path.stem] = read_table(path, OF_REPORT[path.stem])
    return read
