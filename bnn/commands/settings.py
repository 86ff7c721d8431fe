"""What was given on a command line, as the settings of the command."""

from __future__ import annotations

import builtins
from collections.abc import Mapping
from typing import Any, TypeVar, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from bnn.commands.options import option_name, plain_type
from bnn.digits import decimal
from bnn.errors import UserError, first_problem
from bnn.strictjson import parse_object

AnySettings = TypeVar("AnySettings", bound=BaseModel)


def given(model: type[BaseModel], options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that were given, by field of `model`; mappings, written as JSON, and lists are read.

    Raises UserError naming the option that cannot be read.
    """
    return {
        name: read(model.model_fields[name], value, option_name(name))
        for name, value in options.items()
        if value is not None
    }


def read(field: FieldInfo, text: Any, origin: str) -> Any:
    """What was given for a field: a mapping or a list is read here, all else by the model."""
    kind = plain_type(field)
    match get_origin(kind) or kind:
        case builtins.dict:
            return parse_object(text, origin)
        case builtins.tuple | builtins.list:
            return numbers(text, origin)
    return text


def parse(model: type[AnySettings], values: Mapping[str, Any]) -> AnySettings:
    """Validate options of the command line. Raises UserError naming the first option that is wrong."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        name, problem = first_problem(error)
        raise UserError(f"{option_name(name)}: {problem}" if name else problem) from None


def numbers(text: str, origin: str) -> list[float]:
    """Numbers separated by commas. Raises UserError naming the option."""
    try:
        return [decimal(word) for word in text.split(",")]
    except ValueError:
        raise UserError(f"{origin}: {text!r} is not a list of numbers, as in 0,50,90") from None
