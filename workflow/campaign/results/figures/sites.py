"""Other sites whose results lie beside this one's: their tables are read for figures of GPUs and CPUs, and never made.

Light on purpose: the workflow reads it whenever its graph is built.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from bnn.errors import UserError
from campaign.names.cell import IDENTITY
from campaign.names.layout import Layout

COMPARED_ROLE = "large-batch"  # of the cells by which the paper's Fig. 7 compares GPUs and CPUs
GPU, CPU = "cuda", "cpu"  # settings.device
COMPARED_TABLES = ("cells", "throughput", "scaling")

Point = tuple[Any, ...]  # values of POINT_KEYS: a cell's identity without its repeat
POINT_KEYS = tuple(key for key in IDENTITY if key != "repeat")


@dataclass(frozen=True)
class OtherSite:
    """A site beside this one: the devices of its cells at large batches, or in one line why it cannot be used."""

    layout: Layout
    devices: frozenset[str] = frozenset()
    problem: str = ""

    @property
    def name(self) -> str:
        return self.layout.site

    @property
    def files(self) -> list[Path]:
        """Its plan and the tables that are compared, as far as they are there."""
        found = [self.layout.plan, *(self.layout.table(name) for name in COMPARED_TABLES)]
        return [path for path in found if path.exists()]

    def tables(self, names: Iterable[str]) -> list[Path]:
        """Its tables of these names, as far as they are there; none of a site that cannot be used."""
        paths = [] if self.problem else [self.layout.table(name) for name in names]
        return [path for path in paths if path.exists()]

    @cached_property
    def fingerprint(self) -> str:
        """Of the files' content: copied folders have times that say nothing."""
        digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in self.files]
        return hashlib.sha256(" ".join(digests).encode()).hexdigest()[:16]


def other_sites(layout: Layout) -> list[OtherSite]:
    """The sites beside `layout` that have tables, by name; one whose plan is damaged or incomplete says so."""
    return [_look(other) for other in layout.others if any(other.table(name).exists() for name in COMPARED_TABLES)]


def _look(layout: Layout) -> OtherSite:
    for name in COMPARED_TABLES:
        if not layout.table(name).exists():
            return OtherSite(layout, problem=f"{layout.table(name)}: no such file")
    try:
        return OtherSite(layout, frozenset(read_devices(layout.plan)[1].values()))
    except UserError as error:
        return OtherSite(layout, problem=str(error))


def devices_of(plan: dict[str, Any]) -> dict[Point, str]:
    """Device of every point at large batches. Raises KeyError or TypeError when the plan is not of this version."""
    return {
        tuple(cell[key] for key in POINT_KEYS): str(cell["settings"]["device"])
        for cell in plan["cells"]
        if COMPARED_ROLE in cell["roles"]
    }


def read_devices(path: Path) -> tuple[dict[str, Any], dict[Point, str]]:
    """Another site's plan with its `devices_of`. Raises UserError naming the file."""
    from campaign.plan.read import read_plan

    plan = read_plan(path)
    try:
        return plan, devices_of(plan)
    except (KeyError, TypeError) as error:
        raise UserError(f"{path}: not a plan of this version ({type(error).__name__}: {error})") from None


def devices_together(plan: dict[str, Any], others: Iterable[OtherSite]) -> set[str]:
    """Devices at large batches of a site and of all others that can be used."""
    return set(devices_of(plan).values()).union(*(other.devices for other in others))
