"""Studies and variants: the parts of a campaign file, after its schema has been checked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from bnn.errors import UserError
from campaign.ask.sections import COMMANDS, AfterSection, parse_section
from campaign.io.schema import did_you_mean
from campaign.names.cell import selects

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
    """A grid of points; `origin` is its file and key path, for messages.

    `target` is the only target that runs it, empty for a study that every target runs; an `experiment` may make ranks
    suffer faults on purpose. `sections` say what is asked of the posteriors that it trains.
    """

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
    target: str = ""
    experiment: bool = False
    sections: tuple[AfterSection, ...] = ()

    def after(self, command: str) -> AfterSection | None:
        """Its section of that name, `infer` or `prune`."""
        return next((section for section in self.sections if section.command == command), None)

    @property
    def reads(self) -> list[tuple[str, dict[str, Any]]]:
        """The data sets that its jobs read, each with its options."""
        return [(self.dataset, self.dataset_options), *(each.ood.data for each in self.sections if each.ood)]

    def excludes(self, model: str, kind: str, nodes: int, batch_size: int, variant: str) -> bool:
        """Whether an entry of `exclude` lists this point's value under each of its keys."""
        point = {"models": model, "kinds": kind, "nodes": nodes, "batch_sizes": batch_size, "variants": variant}
        return any(selects(entry, point) for entry in self.exclude)


def parse_variants(values: dict[str, Any], locate: Locate) -> dict[str, Variant]:
    """The declared variants, and `base` (which changes nothing) when it is not declared."""
    variants = {name: Variant(name, locate("variants", name), **given) for name, given in values.items()}
    variants.setdefault(BASE, Variant(BASE, locate("variants", BASE)))
    return variants


def parse_studies(
    values: dict[str, Any], nodes: list[int] | None, variants: dict[str, Variant], locate: Locate
) -> dict[str, Study]:
    """Raises UserError for an unknown variant, missing node counts and lists of values that the study does not have."""
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
            target=given.get("target", ""),
            experiment=given.get("experiment", False),
            sections=tuple(
                section for command in COMMANDS if (section := parse_section(command, given.get(command), origin))
            ),
        )
        for index, variant in enumerate(study.variants):
            if variant not in variants:
                hint = did_you_mean(variant, variants)
                raise UserError(f"{origin}.variants[{index}]: unknown variant {variant!r}{hint}")
        for index, entry in enumerate(study.exclude):
            _check_listed(study, entry, f"{origin}.exclude[{index}]")
        for section in study.sections:
            _check_listed(study, section.where or {}, f"{section.origin}.where")
        studies[name] = study
    return studies


def _check_listed(study: Study, entry: dict[str, list[Any]], origin: str) -> None:
    """Raises UserError where a list of values by axes names one that the study does not have."""
    for key, listed in entry.items():
        absent = [value for value in listed if value not in getattr(study, key)]
        if absent:
            raise UserError(f"{origin}.{key}: {absent[0]!r} is not in the study's {key}")
