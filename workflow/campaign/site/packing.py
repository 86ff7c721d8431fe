"""Packed jobs: scripts that share a job of the scheduler (the executor fills them, see workflow/executor)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from campaign.names.layout import Layout
from campaign.site.allocation import Allocation, Pack
from campaign.site.launchers import Placement

PACK_OUTPUT = "@PACK@/job.log"  # of a packed job; the executor puts the job's folder in place of @PACK@


@dataclass(frozen=True)
class PackScript:
    """One kind of packed jobs: what scripts must ask for alike to share one."""

    pack: Pack
    per_machine: int
    threads: int
    gpus: int

    @property
    def allocation(self) -> Allocation:
        """What such a job asks for."""
        return Allocation(self.pack.queue, self.pack.nodes, self.pack.minutes, self.pack.nodes)

    def path(self, layout: Layout) -> Path:
        """Its script, of which no two kinds share one."""
        ranks = f"{self.per_machine}x{self.threads}" + ("_gpu" if self.gpus else "")
        return layout.job(f"pack_{self.pack.queue}_n{self.pack.nodes}_m{self.pack.minutes}_{ranks}")


def pack_script(allocation: Allocation | None, placement: Placement, gpus: int) -> PackScript | None:
    """The kind of packed jobs that a script may join; None for one that gets a job to itself."""
    pack = allocation.pack if allocation else None
    return PackScript(pack, placement.per_machine, placement.threads, gpus) if pack else None
