"""The training of a cell: the job that all others come after."""

from __future__ import annotations

from dataclasses import dataclass

from bnn.settings import TrainSettings
from campaign.names.cell import Cell
from campaign.site.allocation import Allocation
from campaign.site.launchers import Placement


@dataclass(frozen=True)
class PlannedCell:
    """A cell with everything that its job is told.

    `studies` are those that ask for it and `roles` what they feed, joined; `placement` says where its ranks lie and
    `launch` is a hash of how it is launched, which a measurement depends on as it does on its settings. `target` is
    the only target that asks for it, empty: any. `allocation` is what its job asks of the scheduler, if there is one.
    """

    cell: Cell
    settings: TrainSettings
    studies: tuple[str, ...]
    roles: tuple[str, ...]
    placement: Placement
    launch: str
    target: str = ""
    allocation: Allocation | None = None

    @property
    def ranks(self) -> int:
        return self.placement.ranks

    @property
    def study(self) -> str:
        """The first study that asks for it."""
        return self.studies[0]

    @property
    def fingerprint(self) -> str:
        """Hash of what is computed and how it is launched: another one makes the cell run again."""
        return f"{self.settings.fingerprint()}-{self.launch}"
