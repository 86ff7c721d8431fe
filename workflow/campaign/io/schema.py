"""Checking campaign and site files against workflow/schemas, one clear line per mistake."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from bnn.errors import UserError

SCHEMAS = Path(__file__).parents[2] / "schemas"
BOUNDS = {
    "minimum": "at least", "exclusiveMinimum": "more than", "maximum": "at most", "exclusiveMaximum": "less than",
}  # fmt: skip


@cache
def _validator(name: str) -> Any:
    from jsonschema import Draft202012Validator, ValidationError, validators

    def is_whole(_checker: Any, value: Any) -> bool:
        """JSON Schema takes 480.0 for an integer; paths, scripts and messages would not."""
        return isinstance(value, int) and not isinstance(value, bool)

    def pattern(_validator: Any, given: str, value: Any, _schema: Any) -> Iterator[ValidationError]:
        """As JSON Schema means it: Python's $ would let a line break at the end pass."""
        if isinstance(value, str) and not re.search(re.sub(r"\$$", r"\\Z", given), value):
            yield ValidationError(f"{value!r} does not match {given}")

    strict = validators.extend(
        Draft202012Validator,
        {"pattern": pattern},
        type_checker=Draft202012Validator.TYPE_CHECKER.redefine("integer", is_whole),
    )
    return strict(yaml.safe_load((SCHEMAS / f"{name}.schema.yaml").read_text(encoding="utf-8")))


def key_path(parts: Sequence[Any]) -> str:
    """('studies', 'a', 'nodes', 0) as 'studies.a.nodes[0]'."""
    text = ""
    for part in parts:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def near(word: str, known: Iterable[str]) -> str:
    """The known word that is closest, capitals or not, if any is close; else empty."""
    folded = {other.casefold(): other for other in sorted(known, reverse=True)}
    return next((folded[close] for close in difflib.get_close_matches(str(word).casefold(), sorted(folded), n=1)), "")


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """', did you mean X?' for the closest known word, else ' (known: ...)'."""
    words = sorted(known)
    if close := near(word, words):
        return f", did you mean {close}?"
    return f" (known: {', '.join(words)})" if words else ""


def _line(error: Any) -> str:
    where, rule = list(error.absolute_path), error.validator
    value, limit = error.instance, error.validator_value
    if rule == "additionalProperties" and limit is False:
        known = error.schema["properties"]
        key = next(key for key in value if key not in known)
        return f"{key_path([*where, key])}: unknown key{did_you_mean(key, known)}"
    if rule == "required":
        missing = next(key for key in limit if key not in value)
        return f"{key_path([*where, missing])}: missing"
    if "propertyNames" in error.absolute_schema_path:
        return f"{key_path([*where, value])}: not a name (letters, digits, '_', '-', '.')"
    at = key_path(where) or "the file"
    if rule == "enum":
        return f"{at}: {value!r} is none of {', '.join(map(str, limit))}"
    if rule == "uniqueItems":
        twice = next(item for index, item in enumerate(value) if item in value[:index])
        return f"{at}: {twice!r} is listed twice"
    if rule == "type":
        wanted = " or ".join([limit] if isinstance(limit, str) else limit)
        quotes = ": put it in quotes" if "string" in limit and isinstance(value, (int, float)) else ""
        return f"{at}: expected {wanted}, not {value!r}{quotes}"
    if rule in ("minItems", "minProperties", "minLength"):
        return f"{at}: must not be empty"
    if rule == "pattern" and "x-words" in error.schema:
        return f"{at}: {value!r} is not {error.schema['x-words']}"
    if rule == "pattern":
        return f"{at}: {value!r} is not a name (letters, digits, '_', '-', '.')"
    if rule in BOUNDS:
        return f"{at}: {value} must be {BOUNDS[rule]} {limit}"
    return f"{at}: {error.message}"


def check(values: dict[str, Any], schema: str, origin: str) -> None:
    """Validate `values` against workflow/schemas/<schema>.schema.yaml.

    Raises UserError with one line: the origin (a file), the key's path and what is wrong with it.
    """
    errors = list(_validator(schema).iter_errors(values))
    if errors:
        first = min(errors, key=lambda error: (len(error.absolute_path), str(list(error.absolute_path))))
        raise UserError(f"{origin}: {' '.join(_line(first).split())}")


def check_at(value: Any, schema: str, keys: Sequence[str], origin: str) -> None:
    """Validate one value as the key path `keys` of a file would be: what comes from elsewhere passes the same checks.

    Raises UserError as `check`.
    """
    content = value
    for key in reversed(keys):
        content = {key: content}
    for error in _validator(schema).iter_errors(content):
        if list(error.absolute_path) == list(keys):
            raise UserError(f"{origin}: {' '.join(_line(error).split())}")


def merge(base: dict[str, Any], overrides: dict[str, Any], origin: str) -> dict[str, Any]:
    """`base` changed by `overrides`: mappings merge, anything else replaces, null removes.

    Raises UserError when null names a key that is not there: a removal that removes nothing is a slip.
    """
    merged = dict(base)
    for key, value in overrides.items():
        if value is None:
            if key not in merged:
                raise UserError(f"{origin}.{key}: nothing to remove{did_you_mean(key, base)}")
            del merged[key]
        elif isinstance(value, dict) and isinstance(merged.get(key), dict):
            merged[key] = merge(merged[key], value, f"{origin}.{key}")
        else:
            merged[key] = value
    return merged
