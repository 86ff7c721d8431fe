"""Reading a ledger of claims: a YAML file that is checked strictly, and known by its hash."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bnn.errors import UserError
from campaign.io.schema import check, did_you_mean
from campaign.io.yamlfile import read_yaml
from campaign.results.claims.expressions import ARGUMENTS, INTERVALS, NUMBERS, TABLES
from campaign.results.claims.measures import selections

LEDGER = Path(__file__).parents[3] / "claims" / "sharma2020.yaml"
BOUNDED = ("ordering", "trend")


@dataclass(frozen=True)
class Claim:
    """One claim, as its entry in the ledger says; docs/claims.md explains the keys."""

    id: str
    section: str
    at: str
    statement: str
    type: str
    scope: str
    definition: str
    expression: Mapping[str, Any]
    margin: float
    margin_reason: str
    command: str
    hardware: str = ""
    scale: str = "plain"
    printed: Mapping[str, Any] | None = None
    relation: str = ""
    bound: float = 1.0
    work: Mapping[str, int] | None = None
    why: str = ""  # what is known to make measurements differ from it


@dataclass(frozen=True)
class Ledger:
    """All claims of a publication. `sha256` is of the file's bytes."""

    name: str
    title: str
    sha256: str
    hardware: Mapping[str, Mapping[str, Any]]
    everywhere: Mapping[str, Any]
    sides: Mapping[str, Mapping[str, Any]]
    claims: tuple[Claim, ...] = field(default=())

    def known(self, site: str) -> bool:
        """Whether results of this site count as of some hardware that the publication had."""
        return any(site in machine["sites"] for machine in self.hardware.values())

    def measured_on(self, claim: Claim, site: str) -> bool:
        """Whether results of this site count as of the hardware that the claim is of."""
        return bool(claim.hardware) and site in self.hardware[claim.hardware]["sites"]


def load_ledger(path: Path = LEDGER) -> Ledger:
    """Read and check a ledger. Raises UserError naming the file, the claim's id and the key."""
    content = read_yaml(path)
    check(content, "claims", str(path))
    columns = {name for known in TABLES.values() for name in known}
    for key, value in content["everywhere"].items():
        if key not in columns:
            raise UserError(f"{path}: everywhere: {key}: no table has such a column{did_you_mean(key, columns)}")
        if not isinstance(value, str | int | float) or isinstance(value, bool):
            raise UserError(f"{path}: everywhere: {key}: {value!r} is neither text nor a number")
    given = content["claims"]
    for number, entry in enumerate(given, 1):
        shown = entry.get("id") if isinstance(entry, dict) else None
        origin = f"{path}: claim {shown or f'number {number}'}"
        if not isinstance(entry, dict):
            raise UserError(f"{origin}: a claim is a mapping of keys")
        check(entry, "claim", origin)
        _check_sense(entry, content, origin)
    twice = [name for name, count in Counter(entry["id"] for entry in given).items() if count > 1]
    if twice:
        raise UserError(f"{path}: claim {twice[0]}: two claims have this id")
    claims = tuple(_claim(entry, content) for entry in given)
    return Ledger(
        name=path.stem, title=content["title"], sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        hardware=content["hardware"], everywhere=content["everywhere"], sides=content["sides"], claims=claims,
    )  # fmt: skip


def _claim(entry: Mapping[str, Any], content: Mapping[str, Any]) -> Claim:
    defaults = {"margin_reason": content["margin_reasons"][entry["type"]], "command": content["command"]}
    return Claim(**(defaults | dict(entry)))


def _check_sense(entry: Mapping[str, Any], content: Mapping[str, Any], origin: str) -> None:
    """What a schema cannot say: keys that go together, and names that have to exist."""
    kind = entry["type"]
    if kind in BOUNDED and "relation" not in entry:
        raise UserError(f"{origin}: relation: missing, as type {kind} is judged by at least or at most")
    if kind in BOUNDED and entry.get("scale", "plain") != "plain":
        raise UserError(f"{origin}: scale: type {kind} is judged against its bound as measured, on scale plain")
    given = set(entry.get("printed", ())) - {"implied"}
    if "printed" in entry and not given:
        raise UserError(f"{origin}: printed: has no value, nor low and high")
    if {"value", "low"} <= given:
        raise UserError(f"{origin}: printed: is one value or a range from low to high, not both")
    if kind not in BOUNDED and "printed" not in entry:
        raise UserError(f"{origin}: printed: missing, as type {kind} is compared with a printed number")
    if kind not in BOUNDED and ("relation" in entry or "bound" in entry):
        raise UserError(f"{origin}: relation and bound are of orderings and trends, not of type {kind}")
    if entry["scope"] != "anywhere" and "hardware" not in entry:
        raise UserError(f"{origin}: hardware: missing, as the scope is {entry['scope']}")
    if (name := entry.get("hardware")) and name not in content["hardware"]:
        raise UserError(f"{origin}: hardware: {name!r} is not in the file's{did_you_mean(name, content['hardware'])}")
    _check_expression(entry["expression"], f"{origin}: expression")


def _check_expression(expression: Mapping[str, Any], origin: str) -> None:
    function = expression["function"]
    needed, allowed = ARGUMENTS[function]
    given = set(expression) - {"function"}
    if missing := sorted(needed - given):
        raise UserError(f"{origin}.{missing[0]}: missing, function {function} needs it")
    if unknown := sorted(given - needed - allowed):
        raise UserError(f"{origin}.{unknown[0]}: function {function} has no such argument")
    if function == "best" and (len(expression["among"]) < 2 or expression["at"] not in expression["among"]):
        raise UserError(f"{origin}.among: lists at least two values, {expression['at']!r} being one of them")
    for name, selection in selections(expression):
        known = TABLES[selection["table"]]
        columns = [selection["column"], *selection.get("where", {}), *expression.get("pool", ())]
        columns += [expression["over"]] if function == "slope" else []
        for column in columns:
            if column not in known:
                raise UserError(
                    f"{origin}.{name}: table {selection['table']} has no column {column}{did_you_mean(column, known)}"
                )
        for key in ("column", "minus", "per"):
            if selection.get(key, selection["column"]) not in NUMBERS[selection["table"]]:
                raise UserError(f"{origin}.{name}.{key}: {selection[key]} is no number of table {selection['table']}")
        if "minus" in selection and "per" in selection:
            raise UserError(f"{origin}.{name}: has both minus and per: only one of them")
        if "repeat" not in known and {"minus", "per"} & set(selection):
            raise UserError(
                f"{origin}.{name}: minus and per are of repeats: table {selection['table']} has intervals instead"
            )
        if "repeat" not in known and (function != "value" or "pool" in expression):
            raise UserError(f"{origin}.{name}: table {selection['table']} has no repeats: only value without pool does")
        if "repeat" not in known and (selection["table"], selection["column"]) not in INTERVALS:
            raise UserError(f"{origin}.{name}.column: {selection['column']} has no interval in its table")
