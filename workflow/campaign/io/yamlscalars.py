"""Plain words of YAML that are one thing in YAML 1.1 and another in YAML 1.2, or that would lose their text.

YAML 1.1 (https://yaml.org/type) is what most readers in Python speak, YAML 1.2's core schema
(https://yaml.org/spec/1.2.2, section 10.3.2) what people and other programs expect: 24:00:00 is 86400 in one and a text
in the other, 010 is 8 and 10, no is false and a text. Which one the writer meant cannot be known.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from datetime import date
from typing import Any

# YAML 1.2, core schema
FLOAT = re.compile(r"^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)[eE][-+]?[0-9]+$")  # those with an exponent
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_INT = re.compile(r"[-+]?[0-9]+")
_OCTAL = re.compile(r"0o[0-7]+")
_HEX = re.compile(r"0x[0-9a-fA-F]+")
_NULL = {"", "~", "null", "Null", "NULL"}
_TRUE, _FALSE = {"true", "True", "TRUE"}, {"false", "False", "FALSE"}
_INFINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
# Booleans of YAML 1.1's specification that the reader at hand leaves text
_LETTERS = {"y", "Y", "n", "N"}
DIGITS = 1000  # longer ones are no numbers of anybody, and Python refuses them at some length


@dataclass(frozen=True)
class Reading:
    """A scalar as it is written and as it is read; `plain`: without quotes; `wants_text`: it becomes text again."""

    text: str
    value: Any
    plain: bool
    wants_text: bool


def core(text: str) -> Any:
    """What YAML 1.2's core schema makes of a plain word."""
    if text in _NULL:
        return None
    if text in _TRUE or text in _FALSE:
        return text in _TRUE
    if _INT.fullmatch(text) and len(text) < DIGITS:
        return int(text)
    if _OCTAL.fullmatch(text) or _HEX.fullmatch(text):
        return int(text, 0)
    if _INFINITE.fullmatch(text):
        return float(text.replace(".", ""))
    if _FLOAT.fullmatch(text):
        return float(text)
    return text


def first_fault(reading: Reading) -> str:
    """What is wrong with a value, and how to write what may have been meant; empty where all is well."""
    text, value = reading.text, reading.value
    if isinstance(value, str) and not _encodable(value):
        return f"{value!r} holds a character that no file or program can take"
    if not reading.plain:
        return ""
    quoted = f'write "{text}" in quotes'
    other = core(text)
    number = " for the text, or the number in plain digits" if _is_number(value) or _is_number(other) else ""
    if isinstance(value, float) and not math.isfinite(value):
        return f"{text} is no finite number ({quoted} if it is a text)"
    if text in _LETTERS or not _same(value, other) or (value is None and text not in _NULL):
        first = "a boolean" if text in _LETTERS else _words(value, text)
        return f"{text} is {first} in YAML 1.1 and {_words(other, text)} in YAML 1.2: {quoted}{number}"
    if reading.wants_text and value is None:
        return f"{text or 'nothing'} is no text: " + (quoted if text else 'write "" for an empty one')
    if reading.wants_text and isinstance(value, bool):
        return f"{text} is a boolean, not a text: {quoted}, or 1 or 0"
    if reading.wants_text and not isinstance(value, str) and str(value) != text:
        return f"{text} would become {value}: {quoted}"
    return ""


def _same(value: Any, other: Any) -> bool:
    return type(value) is type(other) and value == other


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _words(value: Any, text: str) -> str:
    if isinstance(value, bool):
        return f"the boolean {str(value).lower()}"
    if isinstance(value, str):
        return "a text"
    if isinstance(value, date) or (value is None and text[:4].isdigit() and len(text) < DIGITS):
        return "a date"
    if isinstance(value, (int, float)):
        return f"{value} (base 60)" if ":" in text else str(value)
    return "neither text nor number" if value is None else type(value).__name__


def _encodable(text: str) -> bool:
    return "\0" not in text and not re.search("[\ud800-\udfff]", text)
