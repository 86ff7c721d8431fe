"""How far to trust a campaign's numbers: verdicts, noise, repeats, shared cores, other programs."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Any

from campaign.results.report.summary.statement import Statement, Tables, absent, between, count, listed
from campaign.results.report.words import number, percent
from campaign.results.tables.schemas import IDENTITY_KEYS

if TYPE_CHECKING:
    import pandas as pd

VERDICTS = ("OK", "WARN", "INVALID", "MISSING")
MOST_REASONS = 4


def trust(tables: Tables) -> list[Statement]:
    """Sentences about the cells; one that says so where there is none."""
    if absent(tables, "cells"):
        return [Statement("How far to trust it is not known: table cells was not made.")]
    cells = tables["cells"]
    if cells.empty:
        return [Statement("There is no cell to judge.")]
    said = [_verdicts(cells), _reasons(cells), _noise(cells), _repeats(tables), _shared_cores(tables), _others(cells)]
    said += [_synthetic(cells), _uncommitted(cells)]
    return [each for each in said if each is not None]


def _verdicts(cells: pd.DataFrame) -> Statement:
    counts = {name: int((cells["verdict"] == name).sum()) for name in VERDICTS}
    fine = f"{counts['OK']} are OK"
    marked = [f"{counts['WARN']} WARN (counted, and marked)"] if counts["WARN"] else []
    out = [f"{counts[name]} {name} (not counted)" for name in ("INVALID", "MISSING") if counts[name]]
    text = f"Of {count(len(cells), 'cell')} {listed([fine, *marked, *out])}."
    return Statement(text, {"cells": len(cells), "verdicts": counts})


def _reasons(cells: pd.DataFrame) -> Statement | None:
    """Why cells are not OK, alike ones together: numbers apart, reasons repeat."""
    found = [reason for reasons in cells["reasons"] for reason in str(reasons).split("; ") if reason]
    if not found:
        return None
    alike = Counter(re.sub(r"\d[\d.,e+-]*", "#", reason) for reason in found)
    example = {re.sub(r"\d[\d.,e+-]*", "#", reason): reason for reason in reversed(found)}
    kinds = alike.most_common()
    words = [f'{many} like "{example[kind]}"' if many > 1 else f'"{example[kind]}"' for kind, many in kinds]
    shown = "; ".join(words[:MOST_REASONS])
    more = f"; and {count(len(words) - MOST_REASONS, 'other reason')}" if len(words) > MOST_REASONS else ""
    return Statement(f"Reasons: {shown}{more}.", {"reasons": {example[kind]: many for kind, many in kinds}})


def _noise(cells: pd.DataFrame) -> Statement:
    varied = cells["coefficient_of_variation"].dropna()
    if varied.empty:
        return Statement("How much step times vary is not known: no cell has two steady steps.")
    text = (
        f"Steady step times vary by {percent(varied.median())} in the median cell and by {percent(varied.max())} in "
        f"the noisiest of {len(varied)} (standard deviation over mean)."
    )
    return Statement(text, {"median": varied.median(), "largest": varied.max(), "cells": len(varied)})


def _repeats(tables: Tables) -> Statement:
    """On how many repeats intervals rest; one repeat has none."""
    if absent(tables, "throughput") or tables["throughput"].empty:
        return Statement("How many repeats points have is not known: table throughput has none.")
    repeats = tables["throughput"]["repeats"]
    counted = repeats[repeats > 0]
    if counted.empty:
        return Statement(f"No repeat of {count(len(repeats), 'point')} counts.", {"points": len(repeats)})
    single = int((counted == 1).sum())
    text = f"Intervals are 95% over {between(counted)} counted repeats of a point"
    if single == len(counted):
        text = "Every point has one counted repeat, so that no interval can be given"
    elif single:
        text += f"; {count(single, 'point has', 'points have')} one, and no interval"
    values = {"points": len(repeats), "of_one_repeat": single, "of_none": len(repeats) - len(counted)}
    return Statement(f"{text}.", values)


def _shared_cores(tables: Tables) -> Statement | None:
    """Cells in which the ranks of some host had more threads than it has cores, by table `provenance`."""
    if absent(tables, "provenance") or tables["provenance"].empty:
        return Statement("Whether ranks shared cores is not known: no cell has left a record of where it ran.")
    ranks = tables["provenance"]
    known = ranks.dropna(subset=["threads", "cores"])
    hosts = known.groupby([*IDENTITY_KEYS, "hostname"]).agg(threads=("threads", "sum"), cores=("cores", "max"))
    over = hosts[hosts["threads"] > hosts["cores"]]
    if over.empty:
        return Statement("On no host had the ranks of a cell more threads than there are cores.", {"cells": 0})
    cells = over.reset_index()[list(IDENTITY_KEYS)].drop_duplicates()
    worst = (over["threads"] / over["cores"]).max()
    text = (
        f"In {count(len(cells), 'cell')} the ranks of a host had more threads than it has cores (up to "
        f"{number(worst)} per core): their times are of shared cores."
    )
    return Statement(text, {"cells": len(cells), "threads_per_core": worst})


def _others(cells: pd.DataFrame) -> Statement:
    busy = cells["foreign_cores"].dropna()
    unknown = int(cells.loc[cells["verdict"] != "MISSING", "foreign_cores"].isna().sum())
    values: dict[str, Any] = {"cells": len(busy), "unknown": unknown}
    if busy.empty:
        return Statement("What other programs did meanwhile was not recorded.", values)
    text = f"Other programs kept at most {number(busy.max(), 2)} CPUs busy during the steady steps of a cell"
    text += f"; of {count(unknown, 'cell')} that is not known" if unknown else ""
    return Statement(f"{text}.", values | {"largest": busy.max()})


def _synthetic(cells: pd.DataFrame) -> Statement | None:
    many = _true(cells["synthetic"])
    if not many:
        return None
    trained = count(many, "cell trains", "cells train")
    text = f"{trained} on made-up images: their throughput is real, their accuracy means nothing."
    return Statement(text, {"cells": many})


def _uncommitted(cells: pd.DataFrame) -> Statement | None:
    many = _true(cells["git_dirty"])
    return Statement(f"{count(many, 'cell')} ran code with uncommitted changes.", {"cells": many}) if many else None


def _true(values: pd.Series) -> int:
    """How many are true; what is not known is not."""
    return int(values.isin([True]).sum())
