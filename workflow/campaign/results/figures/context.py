"""What a figure says of its site, besides the tables; and the other sites that it is drawn with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from campaign.results.figures.sites import Point, devices_of

if TYPE_CHECKING:
    from campaign.results.figures.select import Tables


@dataclass(frozen=True)
class SiteRecords:
    """Another site: name of its folder, title, the device of each of its points at large batches, and its tables."""

    name: str
    title: str
    devices: Mapping[Point, str]
    tables: Tables


@dataclass(frozen=True)
class Context:
    """Names for titles and axes, and the campaign's accuracy targets (fractions).

    Figures of several sites also need the site's short name and its points' devices, the other sites' records and why
    records that are there cannot be used.
    """

    site: str
    node_label: str
    targets: tuple[float, ...] = ()
    name: str = ""
    devices: Mapping[Point, str] = field(default_factory=dict)
    others: tuple[SiteRecords, ...] = ()
    unusable: tuple[str, ...] = ()

    @classmethod
    def from_plan(
        cls, plan: dict[str, Any], others: tuple[SiteRecords, ...] = (), unusable: tuple[str, ...] = ()
    ) -> Context:
        """From the content of plan.json."""
        site = plan["site"]
        return cls(
            site=str(site.get("title") or site["name"]),
            node_label=str(site.get("node_label") or "nodes"),
            targets=tuple(float(target) for target in plan.get("accuracy_targets", ())),
            name=str(site["name"]),
            devices=devices_of(plan),
            others=others,
            unusable=unusable,
        )
