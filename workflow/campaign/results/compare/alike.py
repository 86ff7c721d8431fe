"""Whether both campaigns measured the same thing in a cell: what identifies its content, and where that differs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bnn.settings import parse_settings
from campaign.names.cell import Cell
from campaign.results.compare.folder import Side
from campaign.results.compare.samples import Place, Sample, place_of
from campaign.results.tables.schemas import IDENTITY_KEYS

Row = Mapping[str, Any]
BESIDE = ("ranks", "threads")  # what a cell's content is besides its settings
UNNAMED = "settings"  # of which plan.json does not say which differ


def differing(a: Side, b: Side) -> dict[Place, dict[str, str]]:
    """By cell, the keys in which its repeats differ between both sides, with words that say how; only cells with any.

    The hash of the settings that ran decides; which settings they are is looked up in both plans.
    """
    found: dict[Place, dict[str, str]] = {}
    ours, theirs = (_finished(side) for side in (a, b))
    asked: dict[str, dict[Any, Row]] = {}
    for key in sorted(set(ours) & set(theirs), key=str):
        one, two = ours[key], theirs[key]
        said = {name: _words(name, one[name], two[name]) for name in BESIDE if one[name] != two[name]}
        if one["hash"] != two["hash"]:
            asked = asked or {side.name: _science(side) for side in (a, b)}
            said |= _settings(asked, key, one["hash"], two["hash"], said)
        if said:
            found.setdefault(place_of(one), {}).update(said)
    places = {key[:-1] for key in ours} & {key[:-1] for key in theirs}
    for place in places - {key[:-1] for key in set(ours) & set(theirs)}:
        repeats = [sorted(key[-1] for key in side if key[:-1] == place) for side in (ours, theirs)]
        found[place] = {"repeats": f"{_words('repeats', *repeats)}: none in common, so settings cannot be compared"}
    return found


def conditions(a: Sample, b: Sample) -> dict[str, str]:
    """In which conditions of a job after training two sides differ, with words."""
    found = {}
    for repeat in sorted(set(a.conditions) & set(b.conditions)):
        for name, value in a.conditions[repeat].items():
            other = b.conditions[repeat][name]
            if _text(value) != _text(other):
                found[name] = _words(name, value, other)
    return found


def _finished(side: Side) -> dict[tuple[Any, ...], Row]:
    """Rows of finished cells by place and repeat."""
    rows = side.tables["cells"].dropna(subset=["hash"]).to_dict("records")
    return {(*place_of(row), int(row["repeat"])): row for row in rows}


def _science(side: Side) -> dict[tuple[Any, ...], Row]:
    """What the plan asks of each cell: the settings that change its result, and their hash."""
    found: dict[tuple[Any, ...], Row] = {}
    for entry in side.plan["cells"]:
        cell = Cell(**{key: entry[key] for key in IDENTITY_KEYS})
        settings = parse_settings(entry["settings"], f"{side.layout.plan}: cell {cell.name}")
        place = (*place_of({key: entry[key] for key in IDENTITY_KEYS}), cell.repeat)
        found[place] = {"hash": settings.fingerprint(), "science": settings.science()}
    return found


def _settings(
    asked: Mapping[str, Mapping[Any, Row]], key: tuple[Any, ...], one: str, two: str, said: Mapping[str, str]
) -> dict[str, str]:
    """Which settings differ. Where a plan is of others than those that ran, only that they do."""
    sides = [asked[name].get(key) for name in ("A", "B")]
    if any(side is None or side["hash"] != ran for side, ran in zip(sides, (one, two), strict=True)):
        return {UNNAMED: f"{UNNAMED}: hash {one} in A, {two} in B"}
    before, after = (side["science"] for side in sides if side)
    found = {
        name: _words(name, before.get(name), after.get(name))
        for name in sorted({*before, *after})
        if before.get(name) != after.get(name) and name not in said
    }
    return found or ({} if said else {UNNAMED: f"{UNNAMED}: hash {one} in A, {two} in B"})


def _words(name: str, one: Any, two: Any) -> str:
    return f"{name} {_text(one)} in A, {_text(two)} in B"


def _text(value: Any) -> str:
    if value is None:
        return "unset"
    return f"{value:g}" if isinstance(value, float) else str(value)
