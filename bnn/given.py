"""What people give to a command, a file or a function, checked by pydantic and nothing made of it that was not said."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator
from pydantic_core import PydanticCustomError

NUMBERS = (int, float, int | None, float | None)


class Given(BaseModel):
    """Settings: an unknown key, an infinite number, and a boolean where a number is meant, are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _no_boolean_is_a_number(cls, values: Any) -> Any:
        """Python's True is 1, and pydantic follows it: epochs: true would be one epoch."""
        for key, value in values.items() if isinstance(values, dict) else ():
            field = cls.model_fields.get(key)
            if isinstance(value, bool) and field is not None and field.annotation in NUMBERS:
                raise unfit(key, f"{str(value).lower()} is no number")
        return values


def unfit(key: str, what: str) -> PydanticCustomError:
    """The error of a setting that does not fit the others, which `bnn.errors.first_problem` names by its key."""
    return PydanticCustomError("unfit", "{what}", {"key": key, "what": what})
