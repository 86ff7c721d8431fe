"""What an expression compares: numbers of a table's rows, by repeat and point."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from campaign.names.cell import Cell
from campaign.results.tables.schemas import IDENTITY_KEYS

if TYPE_CHECKING:
    import pandas as pd

Key = tuple[int, tuple[Any, ...]]
GOOD = ("OK", "WARN")


@dataclass(frozen=True)
class Side:
    """What cells have to be: `everywhere` restricts all, variant and implementations where nothing is said."""

    everywhere: Mapping[str, Any] = field(default_factory=dict)
    variant: str = ""
    implementations: Mapping[str, Sequence[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Measured:
    """Numbers by (repeat, point). `missing` says why there are none, `unlike` why those that are there do not serve."""

    values: Mapping[Key, float] = field(default_factory=dict)
    cells: tuple[str, ...] = ()
    sites: tuple[str, ...] = ()
    missing: str = ""
    unlike: str = ""


def selections(expression: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The selections of an expression, with the arguments that they are."""
    for name in ("of", "to"):
        if isinstance(expression.get(name), Mapping):
            yield name, expression[name]


def selected(
    tables: Mapping[str, pd.DataFrame], selection: Mapping[str, Any], side: Side, whole: bool = False
) -> tuple[pd.DataFrame, str, str]:
    """The rows of a selection that count; then why there are none, and why those that are there do not serve.

    A valid row may have no value: an accuracy that was never reached, draws that did not settle. `whole` refuses what
    is left, which is the part that did well; otherwise such rows are left out.
    """
    frame = tables.get(selection["table"])
    if frame is None or frame.empty:
        return _nothing(f"table {selection['table']} has no rows")
    where: dict[str, Any] = dict(selection.get("where", {}))
    if side.variant and "variant" not in where:
        where["variant"] = side.variant
        wanted = side.implementations.get(str(where.get("kind", "")))
        if wanted and "implementation" in frame.columns:
            where["implementation"] = wanted
    found = _matching(frame, where)
    if found.empty:
        return _nothing(f"no row of {selection['table']} has {_words(where)}")
    alike = _matching(found, {key: value for key, value in side.everywhere.items() if key in frame.columns})
    if alike.empty:
        return found[:0], "", f"only cells without {_words(side.everywhere)} are there"
    good = _counted(alike)
    if good.empty:
        return _nothing(f"no row of {selection['table']} with {_words(where)} is valid")
    if "minus" in selection:
        good = good.assign(**{selection["column"]: good[selection["column"]] - good[selection["minus"]]})
    if "per" in selection:
        divisor = good[selection["per"]].where(good[selection["per"]] > 0)
        good = good.assign(**{selection["column"]: good[selection["column"]] / divisor})
    numbers = good.dropna(subset=[selection["column"]])
    if whole and len(numbers) < len(good):
        return good[:0], "", _without_value(good[good[selection["column"]].isna()], selection, len(good))
    if numbers.empty:
        return _nothing(f"{selection['column']} of {selection['table']} is empty for {_words(where)}")
    return numbers, "", ""


def measure(
    tables: Mapping[str, pd.DataFrame], selection: Mapping[str, Any], side: Side, pool: Sequence[str] = ()
) -> Measured:
    """A column by repeat and by the point that the columns `pool` say; two rows of one of these do not serve."""
    rows, missing, unlike = selected(tables, selection, side, whole=True)
    if missing or unlike:
        return Measured(missing=missing, unlike=unlike)
    values: dict[Key, float] = {}
    for row in rows.to_dict("records"):
        key = (int(row["repeat"]), tuple(row[column] for column in pool))
        if key in values:
            return Measured(unlike=f"several rows of {selection['table']} have {_words(selection.get('where', {}))}")
        values[key] = float(row[selection["column"]])
    return Measured(values, cells_of(rows, names_sites(selection)), tuple(sorted(set(rows["site"]))))


def _without_value(rows: pd.DataFrame, selection: Mapping[str, Any], count: int) -> str:
    """Why valid rows without a value keep the others from being judged."""
    reasons = sorted({str(why) for why in rows["reason"] if why}) if "reason" in rows.columns else []
    said = f" ({'; '.join(reasons)})" if reasons else ""
    part = "none" if len(rows) == count else f"only {count - len(rows)}"
    return f"{part} of the {count} valid rows of {selection['table']} have a value of {selection['column']}{said}"


def names_sites(selection: Mapping[str, Any]) -> bool:
    """Whether a selection says of which sites its rows are: then sites beside this one count, too."""
    return "site" in selection.get("where", {})


def cells_of(rows: pd.DataFrame, with_site: bool = False) -> tuple[str, ...]:
    """Names of the cells that rows with a cell's identity are of, which are unique within a site; or SITE/NAME."""
    found = set()
    for row in rows.to_dict("records"):
        name = Cell(**{key: row[key] for key in IDENTITY_KEYS}).name
        found.add(f"{row['site']}/{name}" if with_site else name)
    return tuple(sorted(found))


def _nothing(why: str) -> tuple[pd.DataFrame, str, str]:
    import pandas as pd

    return pd.DataFrame(), why, ""


def _matching(frame: pd.DataFrame, where: Mapping[str, Any]) -> pd.DataFrame:
    for column, value in where.items():
        allowed = list(value) if isinstance(value, (list, tuple)) else [value]
        frame = frame[frame[column].isin(allowed)]
    return frame


def _counted(frame: pd.DataFrame) -> pd.DataFrame:
    """Rows of cells and of jobs that are valid, by whatever columns the table says it with."""
    if "counted" in frame.columns:
        frame = frame[frame["counted"].fillna(False).astype(bool)]
    for column in ("verdict", "status"):
        if column in frame.columns:
            frame = frame[frame[column].isin(GOOD)]
    return frame


def _words(where: Mapping[str, Any]) -> str:
    parts = []
    for key, value in where.items():
        parts.append(f"{key} {' or '.join(map(str, value)) if isinstance(value, (list, tuple)) else value}")
    return ", ".join(parts) or "what is asked for"
