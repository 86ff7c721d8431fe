"""The campaign's grid: every cell with its settings, from a campaign file and a site. Reads files, writes none."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

from bnn.errors import UserError
from campaign.ask.counts import resolve
from campaign.ask.datasets import called
from campaign.ask.instead import choose
from campaign.ask.studies import Study, Variant, parse_studies, parse_variants
from campaign.ask.tuning import Tuning, expand
from campaign.ask.validate import check_other_images, check_point, check_room, resolve_settings
from campaign.io.schema import check, merge, near
from campaign.io.yamlfile import read_yaml
from campaign.jobs.after import AfterJob
from campaign.jobs.bench import BenchJob, parse_bench
from campaign.jobs.job import Job
from campaign.jobs.kinds import plan_after
from campaign.jobs.train import TrainJob
from campaign.names.cell import Cell
from campaign.site.launchers import Placement
from campaign.site.site import Site


@dataclass(frozen=True)
class Campaign:
    """What is to be run on a site; `cells` in the order in which they should run (see `load_campaign`).

    `tuning` has what studies of that section vary. `cut` says by study what a machine with many cores leaves out to
    keep to its time (see `campaign.ask.counts`), `replaced` which take another data set than theirs (see
    `campaign.ask.instead`).
    """

    name: str
    origin: str
    site: Site
    accuracy_targets: tuple[float, ...]
    studies: dict[str, Study]
    variants: dict[str, Variant]
    cells: tuple[TrainJob, ...]
    bench: tuple[BenchJob, ...] = ()
    after: tuple[AfterJob, ...] = ()
    cut: tuple[str, ...] = ()
    replaced: dict[str, str] = field(default_factory=dict)
    tuning: dict[str, Tuning] = field(default_factory=dict)
    nll_target: float | None = None

    @cached_property
    def jobs(self) -> tuple[Job, ...]:
        """All jobs, in the order in which they should run."""
        return (*self.cells, *self.after, *self.bench)

    def datasets(self) -> list[tuple[str, dict[str, Any]]]:
        """The data sets that jobs read, each with its options once."""
        read = [data for study in self.studies.values() for data in study.reads]
        return list({json.dumps(data, sort_keys=True): data for data in read}.values())


# What a campaign file has at its top, and a site's grid one level deeper, below the campaign's name.
SECTIONS = {"accuracy_targets", "bench", "nll_target", "nodes", "seed", "settings", "studies", "tuning", "variants"}


class _Point(NamedTuple):
    repeat: int
    study: str
    model: str
    batch_size: int
    variant: str
    nodes: int
    kind: str


def load_campaign(path: Path, site: Site, data_dir: Path | None = None) -> Campaign:
    """Read a campaign file, cut it to a site and lay out its cells.

    Repeats are interleaved (all cells of repeat 1, then all of repeat 2, ...) so that a slow hour of the machine does
    not fall on one point, and the two kinds of a point are neighbours. In `data_dir` (default: BNN_DATA_DIR, else
    results/data) lies what is known of data sets of one's own. Raises UserError with one line naming the file and the
    key's path.
    """
    return parse_campaign(read_yaml(path), str(path), site, data_dir)


def parse_campaign(values: dict[str, Any], origin: str, site: Site, data_dir: Path | None = None) -> Campaign:
    """As `load_campaign`, from the file's content."""
    check(values, "campaign", origin)
    name = values["name"]
    for key in site.grid:
        if key in SECTIONS and key != name:
            raise UserError(f"{site.origin}: site.grid.{key}: a campaign's name is missing above it: grid.{name}.{key}")
    if name not in site.grid and (meant := near(name, site.grid)):
        raise UserError(
            f"{site.origin}: site.grid.{meant}: the campaign {origin} is called {name}, for which grid has nothing: "
            f"write {name}, or add {name}: {{}} to run it uncut"
        )
    overrides = site.grid.get(name, {})
    if overrides:
        source = f"{site.origin}: site.grid.{name}"
        values = merge(values, overrides, source)
        check(values, "campaign", source)
    values, tuning = expand(values, f"{origin}: ")
    values, replaced = choose(values, f"{origin}: ", data_dir)
    values, shortened = resolve(values, site, f"{site.origin}: site.grid.{name}." if overrides else f"{origin}: ")

    def locate(section: str, key: str) -> str:
        """The file and key path that a study or variant comes from."""
        for tuned, each in tuning.items():
            if key == tuned or key in each.choices:
                section, key = "tuning", tuned
        if key in overrides.get(section, {}):
            return f"{site.origin}: site.grid.{name}.{section}.{key}"
        return f"{origin}: {section}.{key}"

    variants = parse_variants(values.get("variants", {}), locate)
    studies = parse_studies(values["studies"], values.get("nodes"), variants, locate)
    common = values.get("settings", {})
    where = f"{site.origin}: site.grid.{name}.settings" if "settings" in overrides else f"{origin}: settings"
    resolve_settings([(where, common)], {})
    for study in studies.values():
        check_other_images(study, data_dir)
    planned: dict[Cell, TrainJob] = {}
    for point in _points(studies):
        study = studies[point.study]
        cell = _plan_cell(point, study, variants, (where, common), values.get("seed", 0), site, data_dir)
        known = planned.get(cell.cell)
        planned[cell.cell] = _join(known, cell) if known else cell
    if not planned:
        raise UserError(f"{origin}: studies: no cells are left to run on site {site.name}")
    targets = tuple(float(value) for value in values.get("accuracy_targets", ()))
    where = f"{site.origin}: site.grid.{name}.bench" if "bench" in overrides else f"{origin}: bench"
    bench = parse_bench(values.get("bench"), where, site)
    cells = tuple(planned.values())
    after = plan_after(studies.values(), cells, site)
    return Campaign(
        name, origin, site, targets, studies, variants, cells, bench, after, shortened, replaced, tuning,
        values.get("nll_target"),
    )  # fmt: skip


def _points(studies: dict[str, Study]) -> Iterator[_Point]:
    """Every point of every study, in the order in which cells run."""
    for repeat in range(1, max(study.repeats for study in studies.values()) + 1):
        for study in studies.values():
            if repeat > study.repeats:
                continue
            axes = product(study.models, study.batch_sizes, study.variants, study.nodes, study.kinds)
            for model, batch_size, variant, nodes, kind in axes:
                if not study.excludes(model, kind, nodes, batch_size, variant):
                    yield _Point(repeat, study.name, model, batch_size, variant, nodes, kind)


def _plan_cell(
    point: _Point,
    study: Study,
    variants: dict[str, Variant],
    common: tuple[str, dict[str, Any]],
    seed: int,
    site: Site,
    data_dir: Path | None,
) -> TrainJob:
    variant = variants[point.variant]
    dataset = called(study.dataset, study.dataset_options, study.origin)
    cell = Cell(site.name, dataset, point.model, point.kind, point.nodes, point.batch_size, point.variant, point.repeat)
    per_node = variant.ranks_per_node or site.ranks_per_node
    owned = {
        "dataset": study.dataset,
        "dataset_options": study.dataset_options,
        "model": point.model,
        "kind": point.kind,
        "batch_size": point.batch_size,
        "seed": seed + point.repeat - 1,
    }
    defaults: dict[str, Any] = {"threads": site.threads}
    for name in ("cv_limit", "foreign_limit"):
        if (limit := getattr(site, name)) is not None:
            defaults[name] = limit
    layers = [
        ("the site's defaults", defaults),
        common,
        (f"{study.origin}.settings", study.settings),
        (f"{variant.origin}.settings", variant.settings),
    ]
    settings = resolve_settings(layers, owned)
    placement = check_room(study, settings, site, point.nodes, per_node)
    launch = _launch_hash(site, placement, per_node, settings.engine)
    settings = settings.model_copy(update={"labels": cell.labels() | {"launch": launch}})
    check_point(study, settings, point.nodes, placement.ranks, data_dir)
    allocation = site.allocate(placement.machines, cell.facts() | {"jobs": "train"}, cell.name)
    return TrainJob(cell, settings, (study.name,), study.roles, placement, launch, study.target, allocation)


def _launch_hash(site: Site, placement: Placement, per_node: int, engine: str) -> str:
    facts: list[Any] = [site.launcher.command(placement), per_node, list(site.modules), sorted(site.variables.items())]
    if site.mpi_library:
        facts.append([site.mpi_library])
    if site.prepare:
        facts.append(["prepare", *site.prepare])
    if profiler := site.profiler_of(engine):
        facts.append([profiler.kind, profiler.library, sorted(profiler.variables.items()), profiler.timeline])
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:8]


def _join(first: TrainJob, second: TrainJob) -> TrainJob:
    """One cell that two studies ask for. Raises UserError naming both when they want different settings."""
    if first.settings.fingerprint() != second.settings.fingerprint():
        a, b = first.settings.science(), second.settings.science()
        key = next(key for key in a if a[key] != b.get(key))
        raise UserError(
            f"studies {first.study} and {second.study} ask for the same cell {first.cell.name} with different "
            f"settings ({key}: {a[key]!r} and {b.get(key)!r}); give one of them a variant of its own"
        )
    roles = tuple(dict.fromkeys([*first.roles, *second.roles]))
    target = first.target if first.target == second.target else ""
    return replace(first, studies=(*first.studies, *second.studies), roles=roles, target=target)
