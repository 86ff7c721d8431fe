"""Options of the command line, made from the pydantic model that validates them: a setting is declared once.

Types and choices are shown and completed here, and checked by the model alone, so that what is wrong is said once.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

import click
from click.shell_completion import CompletionItem
from pydantic import BaseModel
from pydantic.fields import FieldInfo

Decorated = TypeVar("Decorated", bound=Callable[..., Any])
# Signs of annotated_types' constraints, by attribute.
BOUNDS = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}
WORDS = {int: "INTEGER", float: "NUMBER", str: "TEXT", Path: "PATH", dict: "JSON"}


Values = Iterable[str] | Callable[[], Iterable[str]]


def dataset_names() -> tuple[str, ...]:
    """For completion alone: data sets need libraries that no command loads before it has set its threads."""
    from bnn.data import DATASETS

    return DATASETS


def model_names() -> tuple[str, ...]:
    """For completion alone."""
    from bnn.models.describe import MODELS

    return MODELS


def matching(known: Values, incomplete: str) -> list[CompletionItem]:
    """Those that begin like this."""
    return [CompletionItem(word) for word in (known() if callable(known) else known) if word.startswith(incomplete)]


class OutFolder(click.Path):
    """A folder to write to. An empty word, as of a variable that is not set, does not mean the current one."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "":
            self.fail("is empty", param, ctx)
        return super().convert(value, param, ctx)


class SettingType(click.ParamType):
    """Shows what a setting takes; the text goes on unchanged to the model that checks it.

    `known` are values to complete; `path`: files and folders are completed.
    """

    name = "setting"

    def __init__(self, metavar: str, known: Values = (), path: bool = False) -> None:
        self._metavar, self._known, self._path = metavar, known, path

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:
        return self._metavar

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        if self._path:
            return [CompletionItem(incomplete, type="file")]
        return matching(self._known, incomplete)


class Known(click.ParamType):
    """A text that may be anything; these values are completed."""

    name = "text"

    def __init__(self, known: Values) -> None:
        self._known = known

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        return matching(self._known, incomplete)


class Names(click.ParamType):
    """Names separated by commas; these are completed."""

    name = "a,b,c"

    def __init__(self, known: Iterable[str]) -> None:
        self.known = tuple(known)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        return value if isinstance(value, tuple) else tuple(word.strip() for word in value.split(",") if word.strip())

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """The last name of the list, with what stands before it."""
        before, comma, last = incomplete.rpartition(",")
        return [CompletionItem(f"{before}{comma}{word}") for word in self.known if word.startswith(last)]


class Counts(click.ParamType):
    """Whole numbers above 0, separated by commas."""

    name = "n,n,n"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        if isinstance(value, tuple):
            return value
        try:
            counts = tuple(int(word) for word in value.split(","))
        except ValueError:
            counts = ()
        if not counts or min(counts) < 1:
            self.fail(f"{value!r} is not a list of whole numbers above 0, as in 1,100", param, ctx)
        return counts


class ImageShape(Counts):
    """The shape of one image: channels, height and width."""

    name = "c,h,w"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        counts = super().convert(value, param, ctx)
        if len(counts) != 3:
            self.fail(f"{value!r}: expected C,H,W: give channels, height and width, as in 3,32,32", param, ctx)
        return counts


def setting_type(field: FieldInfo, known: Values = ()) -> SettingType:
    """What a field takes, from its annotation. `known` are values that its annotation does not tell."""
    kind = plain_type(field)
    if get_origin(kind) is Literal:
        return one_of([str(value) for value in get_args(kind)])
    if kind is bool:
        return one_of(["true", "false"])
    if get_origin(kind) in (tuple, list):
        return SettingType("N,N,...")
    plain = get_origin(kind) or kind
    return SettingType(WORDS.get(plain, "TEXT"), known, path=plain is Path)


def one_of(values: list[str]) -> SettingType:
    """Shows all values, as there are no others."""
    return SettingType(f"[{'|'.join(values)}]", values)


def plain_type(field: FieldInfo) -> Any:
    """What a field holds, `int | None` as `int`: an option that is not given is None; a model of its own as `dict`."""
    kind = field.annotation
    if get_origin(kind) in (Union, types.UnionType):
        kind = next(part for part in get_args(kind) if part is not type(None))
    return dict if isinstance(kind, type) and issubclass(kind, BaseModel) else kind


def option_name(field: str) -> str:
    """The option of a field, as it is written on the command line."""
    return f"--{field.replace('_', '-')}"


def bounds(field: FieldInfo) -> str:
    """What a number must be: `>0`, `>=0, <=1`; empty where anything goes."""
    found = [
        f"{sign}{value:g}" if abs(value) < 1e6 else f"{sign}{value}"
        for constraint in field.metadata
        for name, sign in BOUNDS.items()
        if (value := getattr(constraint, name, None)) is not None
    ]
    return ", ".join(found)


def help_text(field: FieldInfo, default: str | None) -> str:
    """The description with bounds and default; `default` is told in place of the model's."""
    if default is None and not field.is_required() and field.default_factory is None and field.default is not None:
        default = str(field.default).lower() if isinstance(field.default, bool) else str(field.default)
    notes = [note for note in (bounds(field), f"default: {default}" if default else "") if note]
    return f"{field.description} [{'; '.join(notes)}]" if notes else str(field.description)


def setting_options(
    model: type[BaseModel],
    *,
    argument: str = "",
    rest: str = "",
    known: Mapping[str, Values] | None = None,
    defaults: Mapping[str, str] | None = None,
) -> Callable[[Decorated], Decorated]:
    """A decorator that adds one option per field, the field `argument` as an argument, `rest` as all that follow it.

    `known`: values to complete by field; `defaults`: what is said of defaults that the model does not have.
    """

    def decorate(command: Decorated) -> Decorated:
        for name, field in reversed(model.model_fields.items()):
            kind = setting_type(field, (known or {}).get(name, ()))
            if name == argument:
                command = click.argument(name, type=kind, metavar=name.upper())(command)
                continue
            if name == rest:
                more = SettingType(f"[{argument.upper()}]...", path=True)
                command = click.argument(name, type=more, metavar=f"[{argument.upper()}]...", nargs=-1)(command)
                continue
            text = help_text(field, (defaults or {}).get(name))
            required = field.is_required()
            add = click.option(option_name(name), name, type=kind, required=required, default=None, help=text)
            command = add(command)
        return command

    return decorate
