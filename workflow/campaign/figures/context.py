"""What a figure says of its site, besides the tables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Context:
    """Names for titles and axes, and the campaign's accuracy targets (fractions)."""

    site: str
    node_label: str
    targets: tuple[float, ...] = ()

    @classmethod
    def from_plan(cls, plan: dict[str, Any]) -> Context:
        """From the content of plan.json."""
        site = plan["site"]
        return cls(
            site=str(site.get("title") or site["name"]),
            node_label=str(site.get("node_label") or "nodes"),
            targets=tuple(float(target) for target in plan.get("accuracy_targets", ())),
        )
