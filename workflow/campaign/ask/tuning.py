"""Section `tuning` of a campaign: studies that run every combination of some settings, each as a variant of its own."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import product
from typing import Any

from bnn.errors import UserError
from campaign.names.cell import selects
from campaign.names.targets import TUNING

RANKS_PER_NODE = "ranks_per_node"  # a variant has it beside its settings
KEYS = ("over", "against", "exclude", "description")


@dataclass(frozen=True)
class Tuning:
    """Settings that a study varies: their values, the variant of each combination, and what others are set against.

    `choices` has by variant the value of each setting, `against` the name of a variant.
    """

    over: dict[str, list[Any]]
    choices: dict[str, dict[str, Any]]
    against: str

    @property
    def content(self) -> dict[str, Any]:
        """For plan.json: values as they are shown."""
        shown = {
            variant: {key: text_of(value) for key, value in point.items()} for variant, point in self.choices.items()
        }
        return {"choices": shown, "against": self.against}


def expand(values: dict[str, Any], origin: str) -> tuple[dict[str, Any], dict[str, Tuning]]:
    """A campaign's content with section `tuning` turned into studies and variants, and what each of them varies.

    `origin` is the file and key path before its keys. Raises UserError for a name that is taken, and for values to set
    others against that are not listed.
    """
    studies, variants = dict(values["studies"]), dict(values.get("variants", {}))
    found = {}
    for name, given in values.get("tuning", {}).items():
        where = f"{origin}tuning.{name}"
        if name in studies:
            raise UserError(f"{where}: a study has this name")
        over = given["over"]
        left_out = given.get("exclude", [])
        _check_listed(left_out, over, f"{where}.exclude")
        points = [point for point in _points(over) if not any(selects(entry, point) for entry in left_out)]
        choices = {f"{name}-{_short(point)}": point for point in points}
        for variant, point in choices.items():
            if variant in variants:
                raise UserError(f"{where}: variant {variant} is there already")
            variants[variant] = _variant(point)
        if len(choices) < 2:
            raise UserError(f"{where}.over: one combination; list several values of a setting")
        studies[name] = {key: value for key, value in given.items() if key not in KEYS} | {
            "description": given.get("description", f"settings tried: {', '.join(over)}"),
            "roles": [],
            "target": TUNING,
            "variants": list(choices),
        }
        found[name] = Tuning(over, choices, _against(given, choices, where))
    rest = {key: value for key, value in values.items() if key != "tuning"}
    return rest | {"studies": studies, "variants": variants}, found


def _points(over: dict[str, list[Any]]) -> list[dict[str, Any]]:
    return [dict(zip(over, point, strict=True)) for point in product(*over.values())]


def _against(given: dict[str, Any], choices: dict[str, dict[str, Any]], where: str) -> str:
    wanted = {key: listed[0] for key, listed in given["over"].items()} | given.get("against", {})
    for key, value in wanted.items():
        if value not in given["over"].get(key, ()):
            raise UserError(f"{where}.against.{key}: {value!r} is not among the values of over.{key}")
    found = next((variant for variant, point in choices.items() if point == wanted), None)
    if found is None:
        raise UserError(f"{where}.against: {words_of(wanted)} is left out by exclude")
    return found


def _check_listed(entries: list[dict[str, list[Any]]], over: dict[str, list[Any]], where: str) -> None:
    for index, entry in enumerate(entries):
        for key, listed in entry.items():
            absent = [value for value in listed if value not in over.get(key, ())]
            if absent:
                raise UserError(f"{where}[{index}].{key}: {absent[0]!r} is not among the values of over.{key}")


def _variant(point: dict[str, Any]) -> dict[str, Any]:
    settings = {key: value for key, value in point.items() if key != RANKS_PER_NODE}
    placed = {RANKS_PER_NODE: point[RANKS_PER_NODE]} if RANKS_PER_NODE in point else {}
    return {"description": words_of(point), "settings": settings} | placed


def words_of(point: dict[str, Any]) -> str:
    """`cycle_time_ms 5, fusion_buffer_mb 64`."""
    return ", ".join(f"{key} {text_of(value)}" for key, value in point.items())


def text_of(value: Any) -> str:
    """A value as it is shown: 5 and 5.0 are the same."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value).lower() if isinstance(value, bool) else str(value)
    return f"{value:g}"


def _short(point: dict[str, Any]) -> str:
    """`ctm5-fbm64`: initials and values, so that a value more in a list renames no other cell."""
    initials = {key: "".join(word[0] for word in key.split("_")) for key in point}
    if len(set(initials.values())) < len(initials):
        initials = {key: key for key in point}
    return "-".join(f"{initials[key]}{re.sub('[^A-Za-z0-9_.-]', '_', text_of(point[key]))}" for key in point)
