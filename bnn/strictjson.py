"""Reading JSON that people and other programs write, so that a slip is an error and not the last of two values."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from bnn.errors import UserError
from bnn.regular import read_text_regular


def parse_json(text: str, origin: str) -> Any:
    """What a JSON text (RFC 8259) says.

    Raises UserError naming `origin` for what is no JSON, NaN and Infinity included, for a key that is given twice, for
    numbers beyond what can be computed with, for text that no file can take, and for lists within lists without end.
    """
    try:
        value = json.loads(text, object_pairs_hook=_once, parse_constant=_no_number, parse_float=_finite)
        if "\\u" in text:  # half of a surrogate pair can be written by an escape alone
            json.dumps(value, ensure_ascii=False).encode()
    except json.JSONDecodeError as error:
        raise UserError(f"{origin}: not JSON ({error})") from None
    except UnicodeEncodeError:
        raise UserError(f"{origin}: not JSON (half of a surrogate pair)") from None
    except RecursionError:
        raise UserError(f"{origin}: not read: nested too deep") from None
    except _SlipError as slip:
        raise UserError(f"{origin}: {slip}") from None
    except ValueError:  # Python's limit of an integer's digits
        raise UserError(f"{origin}: not read: a number with too many digits") from None
    return value


def parse_object(text: str, origin: str, what: str = "a JSON object") -> dict[str, Any]:
    """A JSON object. Raises UserError as `parse_json`, and where it is none."""
    value = parse_json(text, origin)
    if not isinstance(value, dict):
        raise UserError(f"{origin}: expected {what}")
    return value


def read_object(path: Path, what: str = "a JSON object") -> dict[str, Any]:
    """A file's JSON object. Raises UserError naming the file, also where it is none, or not UTF-8."""
    return parse_object(read_text_regular(path), str(path), what)


class _SlipError(Exception):
    """What is wrong with a value."""


def _once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for index, key in enumerate(keys) if key in keys[:index])
        raise _SlipError(f"key {twice!r} is given twice")
    return found


def _no_number(word: str) -> NoReturn:
    raise _SlipError(f"not JSON ({word} is no number of JSON)")


def _finite(word: str) -> float:
    value = float(word)
    if not math.isfinite(value):
        raise _SlipError(f"{word[:30]} is no finite number")
    return value
