"""A site: where and how jobs run. Read from profiles/<site>/site.yaml, which its schema documents key by key."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bnn.errors import UserError
from campaign.io.schema import check
from campaign.io.yamlfile import read_yaml
from campaign.names.layout import Layout
from campaign.site.allocation import Allocation, Scheduler, parse_scheduler
from campaign.site.launchers import Launcher, Placement
from campaign.site.machine import GPUS_LOOKED_FOR, Machine, completed

SITE_FILE = "site.yaml"
PROFILE_FILE = "config.yaml"  # Snakemake's options, beside it in a profile
# Where the file's values become words of a script, as they are written there.
TEXTS = (
    ("site", "environment", "variables", "*"),
    ("site", "profiler", "environment", "*"),
    ("site", "launcher", "options", "*"),
    ("site", "environment", "modules", "*"),
    ("site", "scheduler", "options", "*"),
)
# Variables that job scripts use (workflow/templates), and those that a shell does not let them set.
SCRIPT_NAMES = {
    "cell", "code", "data_dir", "folder", "found", "holder", "init", "interposer", "kept", "launcher", "lock", "log",
    "measuring", "mpi_library", "name", "nodes", "pals", "posteriors", "preload", "profiles", "ranks", "record", "said",
    "status", "summary", "watchdog", "watched",
}  # fmt: skip
SHELL_NAMES = {"BASHOPTS", "BASH_VERSINFO", "EUID", "IFS", "PPID", "SHELLOPTS", "UID"}


@dataclass(frozen=True)
class Hardware:
    """Facts about one node; memory in GB, latency of the interconnect in microseconds, its bandwidth in GB/s."""

    cores_per_node: int
    threads_per_core: int = 1
    memory_gb: float | None = None
    gpus_per_node: int = 0
    gpu: str = ""
    interconnect: str = ""
    latency_us: float | None = None
    bandwidth_gb_s: float | None = None
    cpu: str = ""
    sockets: int | None = None


@dataclass(frozen=True)
class Watchdog:
    """Seconds without progress after which a job is ended: of its ranks, and until all of them have started."""

    limit: int = 600
    start_limit: int = 1800


@dataclass(frozen=True)
class Projection:
    """Networks, by name, that measured cells are projected onto: the one that they run `here`, and others."""

    here: str = ""
    elsewhere: tuple[str, ...] = ()
    target_efficiency: float = 0.8


@dataclass(frozen=True)
class Profiler:
    """What counts MPI calls: `none`, `bnn` (our interposer) or `site` (its own library, with its variables)."""

    kind: str = "none"
    library: str = ""
    variables: dict[str, str] = field(default_factory=dict)
    timeline: bool = False

    @property
    def active(self) -> bool:
        """Whether it changes how a job is launched."""
        return self.kind != "none" or self.timeline


@dataclass(frozen=True)
class Site:
    """One site. `grid` holds overrides of campaigns by their name; `origin` is the file, for messages.

    A cell's "nodes" are machines; where `nodes_per_machine` is more than 1, that many of them (a GPU each, say) share
    a machine, and without a scheduler all of them do.
    """

    name: str
    hardware: Hardware
    launcher: Launcher
    scheduler: Scheduler
    origin: str
    title: str = ""
    node_label: str = "nodes"
    nodes_per_machine: int = 1
    ranks_per_node: int = 1
    threads: int = 1
    prepare: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()
    variables: dict[str, str] = field(default_factory=dict)
    mpi_library: str = ""
    profiler: Profiler = Profiler()
    watchdog: Watchdog = Watchdog()
    projection: Projection | None = None
    cv_limit: float | None = None
    foreign_limit: float | None = None
    watts: float | None = None
    locks: str = ""
    grid: dict[str, dict[str, Any]] = field(default_factory=dict)
    rank_memory_gb: float | None = None
    machine: Machine | None = None  # that was found out, where the file leaves that to us

    @property
    def looked_for(self) -> str:
        """What was looked at for GPUs, in words for a message that there are none."""
        return f" (looked for: {GPUS_LOOKED_FOR}, less what CUDA_VISIBLE_DEVICES hides)" if self.machine else ""

    def profiler_of(self, engine: str) -> Profiler | None:
        """What counts the MPI calls of a cell with this engine; None when nothing does."""
        return self.profiler if self.profiler.active and engine == "horovod" else None

    def place(self, nodes: int, ranks_per_node: int, threads: int) -> Placement:
        """Where the ranks of a cell with so many nodes lie. Raises ValueError when the last machine would be uneven."""
        together = nodes if self.scheduler.kind == "none" else min(nodes, self.nodes_per_machine)
        if nodes % together:
            raise ValueError(f"{nodes} {self.node_label} do not fill machines of {together}")
        per_machine = together * ranks_per_node
        smt = -(-per_machine * threads // self.hardware.cores_per_node)  # rounded up
        return Placement(nodes // together, per_machine, threads, smt)

    def allocate(self, machines: int, facts: Mapping[str, Any], what: str) -> Allocation | None:
        """As `Scheduler.allocate`; errors name the site's file."""
        try:
            return self.scheduler.allocate(machines, facts, what)
        except UserError as error:
            raise UserError(f"{self.origin}: {error}") from None

    def layout(self, results: Path) -> Layout:
        """Where this site's files lie under a results folder, of which each has locks of its own."""
        if not self.locks:
            return Layout(results, self.name)
        key = hashlib.sha256(str(results.resolve()).encode()).hexdigest()[:12]
        return Layout(results, self.name, Path(self.locks).expanduser() / f"{self.name}-{key}")

    @property
    def has_gpus(self) -> bool:
        return self.hardware.gpus_per_node > 0

    @property
    def environment_hash(self) -> str:
        """Of what a job that starts no ranks finds: modules and variables."""
        facts = [list(self.modules), sorted(self.variables.items())]
        if self.mpi_library:
            facts.append([self.mpi_library])
        if self.prepare:
            facts.append(["prepare", *self.prepare])
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:8]

    def alone(self, asked: int | None, origin: str) -> Placement:
        """One process that has a node to itself, with threads for all of its cores, or as many as `origin` asks for.

        Raises UserError when more are asked for than there are.
        """
        room = self.hardware.cores_per_node * self.hardware.threads_per_core
        threads = asked or self.hardware.cores_per_node
        if threads > room:
            raise UserError(f"{origin}.threads: {threads} threads are more than {self.name}'s {room} hardware threads")
        return Placement(1, 1, threads, -(-threads // self.hardware.cores_per_node))


def load_site(path: Path) -> Site:
    """Read a site from its profile's folder or from the site file itself.

    Raises UserError with one line naming the file and the key's path; also for a site of another name than its
    profile's folder: a copy would share the original's results.
    """
    file = path / SITE_FILE if path.is_dir() else path
    site = parse_site(read_yaml(file, TEXTS), str(file))
    folder = file.parent.resolve() if ".." in file.parts else file.parent.absolute()
    if site.name != folder.name and _is_profile(folder):
        raise UserError(
            f"{file}: site.name: {site.name} is not the name of the profile's folder, {folder.name}: results of two "
            f"sites must not share a folder; write name: {folder.name}, or rename the folder"
        )
    return site


def _is_profile(folder: Path) -> bool:
    """Whether the folder holds Snakemake's options for this workflow."""
    options = folder / PROFILE_FILE
    try:
        return options.is_file() and bool(re.search(r"^[\s{\"']*configfile\b", options.read_text(), re.MULTILINE))
    except (OSError, UnicodeDecodeError):
        return False


def parse_site(values: dict[str, Any], origin: str) -> Site:
    """Validate a site file's content. Raises UserError as `load_site`."""
    check(values, "site", origin)
    given = dict(values["site"])
    environment = given.pop("environment", {})
    launcher = given.pop("launcher")
    profiler = _profiler(given.pop("profiler", {"kind": "none"}), origin)
    hardware, machine = completed(given.pop("hardware"), given["scheduler"]["kind"], origin)
    if asked := given.pop("projection", None):
        asked = Projection(**(asked | {"elsewhere": tuple(asked.get("elsewhere", ()))}))
        if asked.here in asked.elsewhere:
            raise UserError(f"{origin}: site.projection.elsewhere: {asked.here} is the network here")
    site = Site(
        projection=asked,
        hardware=Hardware(**hardware),
        machine=machine,
        launcher=Launcher(launcher["kind"], tuple(str(word) for word in launcher.get("options", ()))),
        scheduler=parse_scheduler(given.pop("scheduler"), origin),
        prepare=tuple(environment.get("prepare", ())),
        modules=tuple(environment.get("modules", ())),
        variables=_variables(environment.get("variables", {}), f"{origin}: site.environment.variables"),
        profiler=profiler,
        watchdog=Watchdog(**given.pop("watchdog", {})),
        origin=origin,
        **given,
    )
    if site.scheduler.packing and site.scheduler.kind == "cobalt" and site.launcher.nodefile:
        raise UserError(
            f"{origin}: site.scheduler.packing: under cobalt only aprun keeps jobs that share one on nodes of their own"
        )
    threads = site.hardware.cores_per_node * site.hardware.threads_per_core
    ranks = site.ranks_per_node * site.nodes_per_machine
    if ranks * site.threads > threads:
        raise UserError(
            f"{origin}: site.threads: {ranks} ranks x {site.threads} threads are more than "
            f"a node's {threads} hardware threads"
        )
    return site


def _profiler(values: dict[str, Any], origin: str) -> Profiler:
    if values["kind"] == "site" and "library" not in values:
        raise UserError(f"{origin}: site.profiler.library: missing; kind site needs the library to preload")
    if re.search(r"[\s:]", values.get("library", "")):
        raise UserError(f"{origin}: site.profiler.library: LD_PRELOAD takes no path with spaces or colons")
    for key in ("library", "environment"):
        if values["kind"] != "site" and key in values:
            raise UserError(f"{origin}: site.profiler.{key}: kind {values['kind']} has none")
    variables = _variables(values.get("environment", {}), f"{origin}: site.profiler.environment")
    return Profiler(values["kind"], values.get("library", ""), variables, values.get("timeline", False))


def _variables(values: dict[str, Any], origin: str) -> dict[str, str]:
    """Environment variables as text. Raises UserError for a name that the job's script, or its shell, needs itself."""
    for name in values:
        if name in SCRIPT_NAMES or name in SHELL_NAMES:
            raise UserError(f"{origin}.{name}: a variable of the job's script or its shell: it cannot be set here")
    return {name: str(value) for name, value in values.items()}
