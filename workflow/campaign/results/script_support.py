"""What the scripts of the workflow have in common: reading a plan and tables, and errors that a user can read."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec

from bnn.errors import UserError
from bnn.records.columns import read_table
from campaign.results.tables.schemas import TABLES

if TYPE_CHECKING:
    import pandas as pd

P = ParamSpec("P")


def read_plan(path: Path) -> dict[str, Any]:
    """Content of plan.json. Raises UserError naming the file."""
    try:
        plan = json.loads(path.read_text())
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    except json.JSONDecodeError as error:
        raise UserError(f"{path}: not JSON ({error})") from None
    if not isinstance(plan, dict) or not {"campaign", "site", "cells"} <= set(plan):
        raise UserError(f"{path}: not a plan: it needs campaign, site and cells")
    return plan


def read_tables(paths: Iterable[str]) -> dict[str, pd.DataFrame]:
    """Tables by name; a file's stem is its table's name. Raises UserError naming a file that is not its table."""
    read = {}
    for path in map(Path, paths):
        if path.stem not in TABLES:
            raise UserError(f"{path}: no table is called {path.stem}")
        read[path.stem] = read_table(path, TABLES[path.stem])
    return read


def one_line_errors(main: Callable[P, None]) -> Callable[P, None]:
    """End the script with one clear line and code 2 on a mistake of the user's."""

    @wraps(main)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            main(*args, **kwargs)
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            raise SystemExit(2) from None

    return wrapped
