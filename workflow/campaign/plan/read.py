"""Reading plan.json, as it is written here and by earlier versions, perhaps by somebody else."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from bnn.errors import UserError
from bnn.strictjson import read_object
from campaign.io.schema import key_path
from campaign.names.cell import IDENTITY


class _Part(BaseModel):
    """What everything else looks at of a part of the plan; what versions have beside it is theirs."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)


class _Site(_Part):
    name: str = Field(pattern="^[A-Za-z0-9_][A-Za-z0-9_.-]*$")  # a folder's
    title: str = ""
    hardware: dict[str, Any] = {}


class _Cell(_Part):
    site: str
    dataset: str
    model: str
    kind: Literal["bnn", "cnn"]
    nodes: PositiveInt
    batch_size: PositiveInt
    variant: str
    repeat: PositiveInt
    ranks: PositiveInt
    roles: list[str]
    settings: dict[str, Any]
    fingerprint: str


class _Job(_Part):
    record: str = ""


class _Plan(_Part):
    campaign: str
    site: _Site
    cells: list[_Cell]
    studies: dict[str, dict[str, Any]] = {}
    variants: dict[str, str] = {}
    tuning: dict[str, dict[str, Any]] = {}
    projection: dict[str, Any] = {}
    accuracy_targets: list[float] = []
    nll_target: float | None = None
    infer: list[_Job] = []
    prune: list[_Job] = []
    bench: list[_Job] = []

    @model_validator(mode="after")
    def _each_cell_once(self) -> Self:
        seen: set[tuple[Any, ...]] = set()
        for number, cell in enumerate(self.cells):
            identity = tuple(getattr(cell, key) for key in IDENTITY)
            if identity in seen:
                raise PydanticCustomError("twice", "the same cell as another one", {"key": f"cells[{number}]"})
            seen.add(identity)
        return self


def read_plan(path: Path) -> dict[str, Any]:
    """Content of plan.json. Raises UserError naming the file, and the key of what is missing or of another kind."""
    plan = read_object(path, "a plan")
    if not {"campaign", "site", "cells"} <= set(plan):
        raise UserError(f"{path}: not a plan: it needs campaign, site and cells")
    try:
        _Plan.model_validate(plan)
    except ValidationError as error:
        first = error.errors()[0]
        where = key_path(first["loc"]) or first["ctx"]["key"]
        raise UserError(f"{path}: {where}: {'missing' if first['type'] == 'missing' else first['msg']}") from None
    return plan
