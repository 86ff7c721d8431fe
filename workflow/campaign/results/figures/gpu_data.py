"""What figures of GPUs and CPUs draw: comparable points of this site and of those beside it, in series by site.

Rows keep the columns of their table, but `nodes` becomes the number on the axis (GPUs, or CPU nodes) and `variant` the
name of the group that a series is of: one site's runs on one device through one engine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from campaign.results.figures import select
from campaign.results.figures.context import Context, SiteRecords
from campaign.results.figures.select import NothingToDrawError, Series, Tables
from campaign.results.figures.sites import COMPARED_ROLE, CPU, GPU, POINT_KEYS
from campaign.results.figures.style import KIND_NAMES

UNITS = {GPU: "GPUs", CPU: "CPU nodes"}  # what the axis counts
MOST_GROUPS = 4  # as many as have a line of their own
SAME = ["dataset", "model", "batch_size", "width"]  # what points that are compared have in common
GROUP = ["device", "site", "engine"]


@dataclass(frozen=True)
class Compared:
    """Points and cells with further columns `site` and `device`, the series in drawing order, and what must be said."""

    points: pd.DataFrame
    cells: pd.DataFrame
    series: list[Series]
    notes: list[str]

    @property
    def batch(self) -> int:
        return int(self.points["batch_size"].iloc[0])

    @property
    def model(self) -> str:
        return select.model_name(str(self.points["model"].iloc[0]))

    @property
    def sites(self) -> str:
        """The sites by name, those with GPUs first."""
        return ", ".join(self.points.sort_values(["device", "site"], ascending=[False, True])["site"].unique())

    def short(self, group: str) -> str:
        """A group's name in as few words as tell it from others on the same device."""
        of = self.points.drop_duplicates("variant").set_index("variant")
        site, device = of.loc[group, ["site", "device"]]
        return str(site) if ((of["site"] == site) & (of["device"] == device)).sum() == 1 else group

    @property
    def bars(self) -> int:
        """Bars of a panel in which every series has one at every number."""
        return self.points["nodes"].nunique() * len(self.series)

    @property
    def axis(self) -> str:
        devices = set(self.points["device"])
        return " or ".join(words for device, words in UNITS.items() if device in devices)


def compared(
    tables: Tables, context: Context, table: str, column: str, needed: set[str], shown: tuple[str, ...] = (GPU, CPU)
) -> Compared:
    """The points of `table` with a `column`, of GPUs alone or with CPUs where both are measured.

    Points are comparable where data set, network, width and batch per rank agree: the set of points is the one that
    both devices have, of VGG-16 and of the smallest batch if there are several (the paper's figure). Of a site only its
    main variant. Only devices `shown` enter. Raises NothingToDrawError where a `needed` one has no value, or none that
    can be compared.
    """
    sites = [SiteRecords(context.name, context.site, context.devices, tables), *context.others]
    points, unplanned = _rows(sites, table)
    cells, _ = _rows(sites, "cells")
    notes = [*(f"Left out: {line}." for line in context.unusable), *unplanned]
    same = _most_shared(points, column, needed, context)
    chosen = points[(points[SAME] == same).all(axis=1)]
    notes = [_left_out(points, chosen), *notes]
    chosen, variants = _main_variants(chosen[chosen["device"].isin(shown)])
    groups = list(chosen[GROUP].drop_duplicates().itertuples(index=False, name=None))
    fitting = _fitting(groups, context.name)
    if len(fitting) < len(groups):
        rest = ", ".join(_name(group) for group in _ordered(groups) if group not in fitting)
        notes.insert(0, f"Shown are {len(fitting)} of {len(groups)} groups of runs; not shown: {rest}.")
    chosen, cells = _grouped(chosen, fitting), _grouped(_like(cells, chosen), fitting)
    drawn = set(chosen["site"])
    about = [_about(site, variants) for site in sorted(sites, key=lambda site: site.name) if site.name in drawn]
    return Compared(chosen, cells, _series(chosen, fitting), [data_note(cells, about), *notes])


def data_note(cells: pd.DataFrame, about: Sequence[str]) -> str:
    """As campaign.results.figures.select.data_note, of several sites."""
    found = select.departures(cells)
    departs = f" {', '.join(found)}." if found else ""
    return f"{select.data_words(cells)}{departs}{select.repeats_words(cells)} Sites: {'; '.join(about)}."


def _rows(sites: Sequence[SiteRecords], table: str) -> tuple[pd.DataFrame, list[str]]:
    """Rows at large batches of all sites with their device, and a line for each site whose plan does not know some."""
    found, lines = [], []
    for site in sites:
        rows = site.tables[table]
        serves = [COMPARED_ROLE in roles.split(",") for roles in rows["roles"]]
        rows = rows[pd.Series(serves, rows.index, dtype=bool)]
        points = zip(*(rows[key] for key in POINT_KEYS), strict=True)
        devices = pd.Series([site.devices.get(point) for point in points], rows.index, dtype=object)
        unknown = int(devices.isna().sum())
        if unknown:
            lines.append(f"Left out of {site.name}: {unknown} points of its tables that its plan.json does not have.")
        rows = rows.assign(site=site.name, device=devices)[devices.notna()]
        if len(rows):
            found.append(rows)
    if not found:
        raise NothingToDrawError(f"no cell with role {COMPARED_ROLE} to draw")
    return pd.concat(found, ignore_index=True), lines


def _most_shared(points: pd.DataFrame, column: str, needed: set[str], context: Context) -> list[object]:
    """The values of SAME to draw: those that the needed devices have in common, rather with this site among them."""
    known = points[points[column].notna()]
    for device in sorted(needed):
        if device not in set(known["device"]):
            why = "".join(f"; {line}" for line in context.unusable)
            raise NothingToDrawError(f"no run on {UNITS[device]} at large batches has a value that counts{why}")
    ranked = []
    for same, rows in known.groupby(SAME):
        devices = set(rows["device"])
        if needed <= devices:
            dataset, model, batch, width = same
            alone, foreign = len(devices) == 1, context.name not in set(rows["site"])
            ranked.append((alone, foreign, model != "vgg16", model, width != 1, batch, dataset, same))
    if not ranked:
        there = "; ".join(_runs(rows) for _, rows in known.groupby(["device", "site"], sort=True))
        raise NothingToDrawError(f"GPUs and CPUs have no data set, network, width and batch size in common: {there}")
    return list(min(ranked)[-1])


def _runs(rows: pd.DataFrame) -> str:
    """One site's runs on one device in words."""
    site, device = rows["site"].iloc[0], rows["device"].iloc[0]
    kinds = []
    for (dataset, model, width), some in rows.groupby(["dataset", "model", "width"]):
        sizes = " and ".join(map(str, select.batches(some)))
        wide = "" if width == 1 else f" of width {width:g}"
        kinds.append(f"{select.model_name(model)}{wide} on {dataset} at batch {sizes}")
    return f"{site} ({UNITS[device]}) ran {', '.join(kinds)}"


def _left_out(points: pd.DataFrame, chosen: pd.DataFrame) -> str:
    """Which sites have nothing to compare, or that there is no site with CPUs."""
    drawn = set(zip(chosen["device"], chosen["site"], strict=True))
    rest = [_runs(rows) for place, rows in points.groupby(["device", "site"], sort=True) if place not in drawn]
    text = f"Not comparable and left out: {'; '.join(rest)}." if rest else ""
    if CPU not in set(points["device"]):
        text += " GPUs only: no site with CPU runs at large batches lies beside this one in the results folder."
    return text.strip()


def _main_variants(points: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, set[str]]]:
    """Of every site and device its main variant; and their names by site."""
    kept: list[pd.DataFrame] = []
    names: dict[str, set[str]] = {}
    for (_, site), rows in points.groupby(["device", "site"], sort=True):
        variant = select.main_variant(rows)
        kept.append(rows[rows["variant"] == variant])
        names.setdefault(str(site), set()).add(variant)
    return pd.concat(kept, ignore_index=True), names


def _about(site: SiteRecords, variants: dict[str, set[str]]) -> str:
    return f"{site.name} ({site.title}), variant {' and '.join(sorted(variants[site.name]))}"


Group = tuple[str, str, str]


def _ordered(groups: Sequence[Group]) -> list[Group]:
    """GPUs before CPUs, then by site's name."""
    return sorted(groups, key=lambda group: (group[0] != GPU, *group[1:]))


def _fitting(groups: Sequence[Group], own: str) -> list[Group]:
    """As many as can be told apart: this site's first, then of either device in turn by name."""
    queues = {
        device: sorted((g for g in groups if g[0] == device), key=lambda g: (g[1] != own, *g[1:])) for device in UNITS
    }
    turns = [(turn, group[1] != own, group) for queue in queues.values() for turn, group in enumerate(queue)]
    return _ordered([group for _, _, group in sorted(turns)[:MOST_GROUPS]])


def _name(group: Group) -> str:
    device, site, engine = group
    return f"{site} {UNITS[device]}, {engine}"


def _grouped(rows: pd.DataFrame, groups: Sequence[Group]) -> pd.DataFrame:
    """The rows of these groups: `nodes` becomes the axis's number, `variant` the group's name."""
    names = {group: _name(group) for group in groups}
    found = [names.get(group) for group in rows[GROUP].itertuples(index=False, name=None)]
    counts = rows["ranks"].where(rows["device"] == GPU, rows["nodes"])
    changed = rows.assign(variant=pd.Series(found, rows.index, dtype=object), nodes=counts.astype("int64"))
    if "baseline_nodes" in rows:
        changed["baseline_nodes"] = (rows["baseline_nodes"] * (counts / rows["nodes"])).astype("float64")
    return changed[changed["variant"].notna()]


def _like(cells: pd.DataFrame, points: pd.DataFrame) -> pd.DataFrame:
    """The cells of these points."""
    keys = [*SAME, "device", "site", "variant", "kind", "nodes"]
    return cells.merge(points[keys].drop_duplicates(), on=keys)


def _series(points: pd.DataFrame, groups: Sequence[Group]) -> list[Series]:
    made = []
    for rank, group in enumerate(groups):
        device, site, engine = group
        for kind in ("bnn", "cnn"):
            rows = points[(points["variant"] == _name(group)) & (points["kind"] == kind)]
            if len(rows):
                implementations = "/".join(sorted(rows["implementation"].unique()))
                label = f"{KIND_NAMES[kind]} on {site} {UNITS[device]} ({implementations}, {engine})"
                made.append(Series(kind, _name(group), label, rank))
    return made
