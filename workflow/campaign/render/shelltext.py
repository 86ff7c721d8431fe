"""Text of shell scripts: a template can print nothing that is not quoted, or checked to need no quotes.

Jinja hands every printed expression to `printed` (its finalize), which refuses plain text: a template that forgets a
filter fails in every test that renders it. Filters return `Safe` text.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup

from bnn.errors import UserError


class Safe(Markup):
    """Text that a script may hold as it stands. (Jinja escapes none of it; what macros print is the same.)"""


def template(folder: Path, name: str) -> Template:
    """A template of scripts, with the filters q, directive, comment, plain and name."""
    environment = Environment(
        loader=FileSystemLoader(folder), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
        keep_trailing_newline=True, autoescape=True, finalize=printed,
    )  # fmt: skip
    environment.filters |= {"q": quoted, "directive": directive, "comment": comment, "plain": plain, "name": name_only}
    return environment.get_template(name)


def printed(value: Any) -> Markup:
    """What a template prints for an expression. Raises TypeError for text that no filter has made safe."""
    if isinstance(value, Markup):
        return value
    if type(value) is int or value == "":
        return Safe(value)
    raise TypeError(f"a template prints {value!r} without a filter")


def quoted(value: Any) -> Safe:
    """A word, or several, as the shell must see them, whatever they hold; always on one line.

    A line break within quotes would be right for the shell, but what follows it may look like a directive.
    """
    if isinstance(value, (list, tuple)):
        return Safe(" ".join(quoted(word) for word in value))
    text = _encodable(str(value))
    if text.isprintable():
        return Safe(shlex.quote(text))
    return Safe("$'" + "".join(map(_escaped, text)) + "'")


def directive(value: Any) -> Safe:
    """Text of a line that a scheduler reads. Raises UserError where it would not be one line of plain characters."""
    if not re.fullmatch(r"[\x20-\x7e]+", str(value)):
        raise UserError(f"{str(value)!r}: a line for a scheduler holds plain characters only")
    return Safe(value)


def comment(value: Any) -> Safe:
    """Text that cannot leave its comment line."""
    return Safe(re.sub(r"[^\x20-\x7e]+", " ", str(value)))


def plain(value: Any) -> Safe:
    """Text that means itself in a shell, quoted or not. Raises UserError for any other."""
    if not re.fullmatch(r"[A-Za-z0-9_.:/@%+=,-]+", str(value)):
        raise UserError(f"{str(value)!r}: only letters, digits and _.:/@%+=,- can stand here in a job's script")
    return Safe(value)


def name_only(value: Any) -> Safe:
    """A variable's name. Raises UserError for any other text."""
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", str(value)):
        raise UserError(f"{str(value)!r}: not the name of a variable")
    return Safe(value)


def _escaped(character: str) -> str:
    """A character within bash's $'...', which is one line of printable text: others become their bytes in UTF-8."""
    if character in "\\'":
        return "\\" + character
    return character if character.isprintable() else "".join(f"\\x{byte:02x}" for byte in character.encode())


def _encodable(text: str) -> str:
    if "\0" in text or re.search("[\ud800-\udfff]", text):
        raise UserError(f"{text!r}: no script can hold this text")
    return text
