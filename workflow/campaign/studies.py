"""Studies and variants: the parts of a campaign file, after its schema has been checked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from bnn.errors import UserError
from campaign.schema import did_you_mean

BASE = "base"
Locate = Callable[[str, str], str]


@dataclass(frozen=True)
class Variant:
    """A named way to run a point; `origin` is its file and key path, for messages."""

    name: str
    origin: str
    description: str = ""
    ranks_per_node: int | None = None
    settings: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Study:
    """A grid of points; `origin` is its file and key path, for messages."""

    name: str
    origin: str
    dataset: str
    dataset_options: dict[str, Any]
    models: tuple[str, ...]
    kinds: tuple[str, ...]
    nodes: tuple[int, ...]
    batch_sizes: tuple[int, ...]
    variants: tuple[str, ...]
    repeats: int
    roles: tuple[str, ...]
    settings: dict[str, Any]
    exclude: tuple[dict[str, list[Any]], ...]
    description: str = ""

    def excludes(self, model: str, kind: str, nodes: int, batch_size: int, variant: str) -> bool:
        """Whether an entry of `exclude` lists this point's value under each of its keys."""
        point = {"models": model, "kinds": kind, "nodes": nodes, "batch_sizes": batch_size, "variants": variant}
        return any(all(point[key] in values for key, values in entry.items()) for entry in self.exclude)


def parse_variants(values: dict[str, Any], locate: Locate) -> dict[str, Variant]:
    """The declared variants, and `base` (which changes nothing) when it is not declared."""
    variants = {name: Variant(name, locate("variants", name), **given) for name, given in values.items()}
    variants.setdefault(BASE, Variant(BASE, locate("variants", BASE)))
    return variants


def parse_studies(
    values: dict[str, Any], nodes: list[int] | None, variants: dict[str, Variant], locate: Locate
) -> dict[str, Study]:
    """Raises UserError for an unknown variant, missing node counts and exclusions that name nothing of the study."""
    studies = {}
    for name, given in values.items():
        origin = locate("studies", name)
        counts = given.get("nodes", nodes)
        if counts is None:
            raise UserError(f"{origin}.nodes: missing (and the campaign lists no nodes)")
        study = Study(
            name=name,
            origin=origin,
            dataset=given["dataset"],
            dataset_options=given.get("dataset_options", {}),
            models=tuple(given["models"]),
            kinds=tuple(given.get("kinds", ("bnn", "cnn"))),
            nodes=tuple(counts),
            batch_sizes=tuple(given["batch_sizes"]),
            variants=tuple(given.get("variants", (BASE,))),
            repeats=given.get("repeats", 1),
            roles=tuple(given["roles"]),
            settings=given.get("settings", {}),
            exclude=tuple(given.get("exclude", ())),
            description=given.get("description", ""),
        )
        for index, variant in enumerate(study.variants):
            if variant not in variants:
                hint = did_you_mean(variant, variants)
                raise UserError(f"{origin}.variants[{index}]: unknown variant {variant!r}{hint}")
        _check_exclusions(study)
        studies[name] = study
    return studies


def _check_exclusions(study: Study) -> None:
    for index, entry in enumerate(study.exclude):
        for key, listed in entry.items():
            absent = [value for value in listed if value not in getattr(study, key)]
            if absent:
                raise UserError(f"{study.origin}.exclude[{index}].{key}: {absent[0]!r} is not in the study's {key}")
