"""The sections `infer` and `prune` of a study: what is asked of the posteriors that its cells save."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bnn.errors import UserError
from campaign.names.cell import Cell, selects
from campaign.names.commands import INFER, PRUNE

COMMANDS = (INFER, PRUNE)  # of bnn, and the sections' names


@dataclass(frozen=True)
class Sweep:
    """One way to prune: what a pruned weight is, where thresholds are taken, and what is removed."""

    semantics: str
    scope: str = "global"
    by: str = "weight"

    @property
    def word(self) -> str:
        """As one path component."""
        return f"{self.semantics}-{self.scope}-{self.by}"


@dataclass(frozen=True)
class AfterSection:
    """One section. `images` are all of the test split where None, `where` names the cells by values of the study's

    axes (all of them without it), `threads` is the site's cores where None. `percent` and `sweeps` are of pruning only.
    """

    command: str
    origin: str
    draws: int
    images: int | None = None
    threads: int | None = None
    where: dict[str, list[Any]] | None = None
    percent: tuple[float, ...] = ()
    sweeps: tuple[Sweep, ...] = ()

    def selects(self, cell: Cell) -> bool:
        """Whether it asks for this cell of its study; only a bnn has a posterior."""
        return cell.kind == "bnn" and selects(self.where or {}, cell.facts())


def parse_section(command: str, values: dict[str, Any] | None, study: str) -> AfterSection | None:
    """The section `command` of the study with origin `study`, None without one; its schema has been checked.

    Raises UserError when two sweeps are the same.
    """
    if values is None:
        return None
    origin = f"{study}.{command}"
    given = dict(values)
    sweeps = tuple(Sweep(**sweep) for sweep in given.pop("sweeps", ()))
    for index, sweep in enumerate(sweeps):
        if sweep in sweeps[:index]:
            raise UserError(f"{origin}.sweeps[{index}]: {sweep.word} is listed twice")
    return AfterSection(command, origin, percent=tuple(given.pop("percent", ())), sweeps=sweeps, **given)
