"""One job of a campaign: what training, inference, pruning and benchmarks have in common.

Everything that runs, renders, plans or tells of jobs asks this of them, whatever they do.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar

from campaign.names.cell import Cell
from campaign.names.layout import Layout
from campaign.site.allocation import Allocation
from campaign.site.launchers import Placement
from campaign.site.site import Site


class Job(ABC):
    """A command of `bnn` with its options, a script of its own, and one record that is written last of all.

    `placement` says where its ranks lie, `allocation` what it asks of its scheduler, None where there is none. `target`
    is the only target of the workflow that asks for it; empty: any.
    """

    # Of a kind of jobs: the command of `bnn`; what it does, in words; its section of plan.json; its script's template.
    COMMAND: ClassVar[str]
    NOUN: ClassVar[str]
    SECTION: ClassVar[str]
    TEMPLATE: ClassVar[str]
    # Its records, below the site's folder, and its logs: patterns, in which `words` tell the jobs of the kind apart.
    RECORD: ClassVar[str]
    LOG: ClassVar[str]
    RULE: ClassVar[str] = ""  # of Snakemake, which makes its records; empty: called as the command
    HAS_RANKS: ClassVar[bool] = False  # which the site's launcher starts, also on the one machine that there is

    target: str
    placement: Placement
    allocation: Allocation | None

    @property
    def command(self) -> str:
        return self.COMMAND

    @classmethod
    def rule(cls) -> str:
        """The name of the rule that makes its records."""
        return cls.RULE or cls.COMMAND

    @property
    @abstractmethod
    def name(self) -> str:
        """Unique within the site: its script and its journal are called so."""

    @property
    @abstractmethod
    def words(self) -> dict[str, str]:
        """What its kind's patterns are filled with."""

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """Hash of what is computed, from what, and how it is launched: another one makes it run again."""

    @property
    def gpus(self) -> int:
        """GPUs that it uses of each machine."""
        return 0

    @property
    def after(self) -> tuple[Cell, ...]:
        """The cells that must have been trained before."""
        return ()

    @property
    def feeds(self) -> tuple[str, ...]:
        """The roles, as studies name them, that its record serves."""
        return ()

    @property
    def reads(self) -> list[tuple[str, dict[str, Any]]]:
        """The data sets that it reads, each with its options."""
        return []

    @abstractmethod
    def context(self, layout: Layout, site: Site) -> dict[str, Any]:
        """What its template is told beyond what all are told (campaign.render.scripts)."""

    @abstractmethod
    def plan_entry(self, site: str) -> dict[str, Any]:
        """What plan.json says of it; paths are relative to the results folder."""

    @abstractmethod
    def is_current(self, layout: Layout) -> bool:
        """Whether its record is as the plan asks: of this fingerprint, and made from what lies there now."""

    @abstractmethod
    def is_damaged(self, layout: Layout) -> bool:
        """Whether its record is there and is none; of one that cannot be opened at the moment that is not known."""

    @abstractmethod
    def seconds(self, layout: Layout) -> float | None:
        """How long it took, start-up included; None where its record is not as the plan asks."""

    def beside(self, layout: Layout) -> dict[Path, str]:
        """Files that its script reads, with their content."""
        return {}

    def record(self, layout: Layout) -> Path:
        """What says that it is done."""
        return layout.root / self.RECORD.format(**self.words)

    def script(self, layout: Layout) -> Path:
        return layout.job(self.name)

    def log(self, layout: Layout) -> Path:
        """What it prints."""
        return layout.log(self.LOG.format(**self.words))
