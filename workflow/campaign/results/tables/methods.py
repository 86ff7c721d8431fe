"""Methods side by side: rows of table `methods`, from the tables of cells and of predictions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from bnn.metrics import Interval
from campaign.results.statistics import NO_INTERVAL, interval_or_nan, paired, worse
from campaign.results.tables.compare import step_seconds
from campaign.results.tables.evaluations import OF_OTHERS, time_to_nll
from campaign.results.tables.identity import IDENTITY, POINT
from campaign.results.tables.method_names import method_name
from campaign.results.tables.method_schemas import AT_MOST_ONE, MEASURES

if TYPE_CHECKING:
    import pandas as pd

Row = dict[str, Any]
POINT_KEYS, IDENTITY_KEYS = [column.name for column in POINT], [column.name for column in IDENTITY]
SIZES = (1, 2, 5, 10, 20, 50, 100, 200, 400, 1000, 2000, 5000)  # numbers of draws that are told of
# What must be the same of two training steps for their times to be compared: all but the kind and the variant.
SAME_STEP = [*(key for key in POINT_KEYS if key not in ("kind", "variant")), "width", "ranks", "threads"]
COUNTED = ("OK", "WARN")
NO_BASELINE = "no conventional network of this size was timed at this point: no relative cost"


def method_rows(
    cells: pd.DataFrame, jobs: pd.DataFrame, evaluations: pd.DataFrame, target: float | None = None
) -> list[Row]:
    """`cells` and `evaluations` are the tables of these names, `jobs` the rows of `inference` and `inference_others`.

    `target`: the NLL whose time to reach is told, if one is.
    """
    if jobs.empty:
        return []
    groups = _named(jobs).groupby([*POINT_KEYS, "method", "shift"], sort=True)
    return [_row(group.sort_values("repeat"), cells, evaluations, target) for _, group in groups]


def draw_rows(jobs: pd.DataFrame, draws: pd.DataFrame) -> list[Row]:
    """The rows of table `method_draws`; `draws` is table `inference_draws`. None of records without such numbers."""
    rows: list[Row] = []
    if jobs.empty:
        return rows
    plain = _named(jobs).query("shift == '' and temperature_asked == ''")
    plain = plain[plain["status"].isin(COUNTED) & plain["verdict"].isin(COUNTED)]
    told = ["method", "draws", "seconds_per_image"]
    of_draws = draws.dropna(subset=["nll_so_far"]).merge(plain[[*IDENTITY_KEYS, *told]], on=IDENTITY_KEYS)
    of_draws = of_draws.assign(size=of_draws["draw"].astype(int) + 1).sort_values("repeat", kind="stable")
    chosen = of_draws[of_draws["size"].isin(SIZES) | (of_draws["size"] == of_draws["draws"])]
    for place, group in chosen.groupby([*POINT_KEYS, "method", "size"], sort=True):
        row: Row = dict(zip([*POINT_KEYS, "method", "draws"], place, strict=True)) | {"repeats": len(group)}
        seconds = group["size"] * group["seconds_per_image"] / group["draws"].astype(float)
        for name, values in (("nll", group["nll_so_far"]), ("seconds_per_image", seconds)):
            found, _ = _interval([float(value) for value in values])
            row |= {name: found.value, f"{name}_low": found.low, f"{name}_high": found.high}
        rows.append(row)
    return rows


def _named(jobs: pd.DataFrame) -> pd.DataFrame:
    """With column `method`, and seconds per image."""
    asked = jobs.assign(
        shift=jobs["shift"].fillna(""), temperature_asked=jobs["temperature_asked"].fillna(""),
        seconds_per_image=jobs["seconds_draws"] / jobs["images"].astype(float),
    )  # fmt: skip
    members = asked["members"].fillna(0).astype(int)
    names = zip(asked["kind"], asked["implementation"], asked["temperature_asked"], members, strict=True)
    return asked.assign(method=[method_name(*each) for each in names], members=members)


def _row(group: pd.DataFrame, cells: pd.DataFrame, evaluations: pd.DataFrame, target: float | None) -> Row:
    good = group[group["status"].isin(COUNTED) & group["verdict"].isin(COUNTED)]
    first = (good if len(good) else group).iloc[0]
    same = ("method", "shift", "implementation", "width", "images", "draws")
    mine = cells[(cells[POINT_KEYS] == first[POINT_KEYS]).all(axis=1)]
    row: Row = {key: first[key] for key in (*POINT_KEYS, *same)}
    row["threads"] = None if mine.empty else int(mine["threads"].iloc[0])
    verdicts = [*good["status"], *good["verdict"]]
    row |= {
        "repeats": len(good),
        "repeats_planned": len(group),
        "verdict": worse(*verdicts) if verdicts else "INVALID",
        "ood": next((name for name in good["ood"].dropna() if name), ""),
    }
    reasons = [] if len(good) else sorted(set(group["reasons"].dropna())) or ["no repeat of its training counts"]
    cost, why = _cost(mine, cells, max(int(first["members"]), 1))
    measures, lacking, method = _measures(good)
    reach, late = _reach(first, mine, evaluations, target)
    reason = "; ".join(filter(None, [*reasons, *why, *lacking, late]))
    return row | cost | measures | reach | {"interval_method": method, "reason": reason}


def _reach(first: pd.Series, mine: pd.DataFrame, evaluations: pd.DataFrame, target: float | None) -> tuple[Row, str]:
    """Training time to `target`, of a network as it was trained, and why there is none."""
    nothing = evaluations.iloc[:0]
    if target is None:
        return time_to_nll(nothing, math.nan, 0)[0], ""
    if first["members"] > 1 or first["temperature_asked"]:
        return time_to_nll(nothing, target, 0)[0], OF_OTHERS
    same = (evaluations[POINT_KEYS] == first[POINT_KEYS]).all(axis=1)
    return time_to_nll(evaluations[same], target, int(mine["counted"].sum()))


def _measures(good: pd.DataFrame) -> tuple[Row, list[str], str]:
    """Centres and ends, what has no interval and why, and how the intervals were made."""
    row: Row = {}
    lacking = []
    method = ""
    for name in MEASURES:
        values = [float(value) for value in good[name].dropna()]
        found, why = _interval(values)
        top = 1.0 if name in AT_MOST_ONE else math.inf  # an interval ends where the quantity does
        row |= {name: found.value, f"{name}_low": min(found.low, top), f"{name}_high": min(found.high, top)}
        lacking += [f"{name}: {why}"] if why else []
        method = method or (found.method if not why else "")
    if len(good) == 1:
        lacking.append("a single repeat: no intervals")
    return row, lacking, method


def _interval(values: Sequence[float]) -> tuple[Interval, str]:
    """The interval of docs/intervals.md, which is of positive values; of others their mean alone, and why."""
    if all(value > 0 for value in values):
        return interval_or_nan(values), ""
    return Interval(sum(values) / len(values), math.nan, math.nan, ""), "no interval, a repeat's value is 0"


def _cost(mine: pd.DataFrame, cells: pd.DataFrame, members: int) -> tuple[Row, list[str]]:
    """Time of a step relative to the baseline's, by repeat, and why there is none.

    Each of a mixture's members was trained with as many steps as the baseline.
    """
    row: Row = {"baseline": "", "cost_repeats": 0, "cost": math.nan, "cost_low": math.nan, "cost_high": math.nan}
    seconds = step_seconds(mine)
    if not seconds:
        return row, ["no repeat of its training was timed: no relative cost"]
    found = baseline(mine.iloc[0], cells)
    if found is None:
        return row, [NO_BASELINE]
    name, others = found
    row["baseline"] = name
    common = set(seconds) & set(others)
    ratio = paired(seconds, others) if common else NO_INTERVAL
    ends = {"cost": ratio.value, "cost_low": ratio.low, "cost_high": ratio.high}
    row |= {"cost_repeats": len(common)} | {name: members * value for name, value in ends.items()}
    return row, [] if common else ["no repeat was timed on both sides: no relative cost"]


def baseline(cell: pd.Series, cells: pd.DataFrame) -> tuple[str, dict[int, float]] | None:
    """Name and seconds of a step by repeat of the conventional network that a cell's training is compared with.

    Of those of its point, size, ranks and threads it is the fastest by geometric mean, so that all methods of a point
    have one in common; None where none was timed.
    """
    rivals = cells[(cells["kind"] == "cnn") & (cells[SAME_STEP] == cell[SAME_STEP]).all(axis=1)]
    timed = []
    for variant, group in rivals.groupby("variant", sort=True):
        if seconds := step_seconds(group):
            mean = math.fsum(map(math.log, seconds.values())) / len(seconds)
            counted = group[group["counted"]]
            timed.append((mean, str(variant), str(counted["implementation"].iloc[0]), seconds))
    if not timed:
        return None
    _, variant, implementation, seconds = min(timed, key=lambda each: each[:2])
    among = f", the fastest of {len(timed)}" if len(timed) > 1 else ""
    return f"{implementation} ({variant}{among})", seconds
