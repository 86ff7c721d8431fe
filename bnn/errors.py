"""The one exception a user can cause, and the words that pydantic's errors become."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import ValidationError


class UserError(Exception):
    """A mistake in the input or the environment.

    The command line prints its text as one line and exits with code 2; a traceback is for our own bugs.
    The text names the file, key or rank concerned. What it quotes of a file may hold line breaks and control
    characters: they are written as escapes.
    """

    def __init__(self, text: str = "") -> None:
        super().__init__("".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text))


def first_problem(error: ValidationError) -> tuple[str, str]:
    """The key of the first problem that was found, with dots, and what is wrong; the key is empty for the whole."""
    first = error.errors()[0]
    key = first.get("ctx", {}).get("key") or ".".join(str(part) for part in first["loc"])
    unknown = first["type"] == "extra_forbidden"
    return key, "unknown setting" if unknown else first["msg"].removeprefix("Value error, ")
