"""Schedulers: their queues, and what a job asks of them."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bnn.errors import UserError
from campaign.io.schema import check_at
from campaign.names.cell import selects
from campaign.site.directives import check_options

ACCOUNT = "CAMPAIGN_ACCOUNT"  # environment variable, before the site's own
CLOCK = re.compile(r"(?:(\d+)-)?(\d+):(\d\d):00")  # a limit as Slurm and PBS write it


@dataclass(frozen=True)
class Queue:
    """One queue, or a range of node counts of one with a time limit of its own."""

    name: str
    max_nodes: int
    max_minutes: int
    min_nodes: int = 1

    def __str__(self) -> str:
        return f"{self.name} ({self.min_nodes}-{self.max_nodes} nodes, {self.max_minutes} min)"


@dataclass(frozen=True)
class Walltime:
    """Minutes of the jobs that `where` names by values of their facts; of all where it names none."""

    minutes: int
    where: dict[str, list[Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Pack:
    """A job that holds several: machines of a queue, for at most `minutes`."""

    queue: str
    nodes: int
    minutes: int


@dataclass(frozen=True)
class Packing:
    """How jobs share one: side by side on `nodes` (default: the fewest that their queue takes), and so many in turn."""

    nodes: int = 1
    in_turn: int = 1

    def of(self, queue: Queue, machines: int, minutes: int) -> Pack | None:
        """The kind of packed job that takes one of so many machines and minutes; None where it could hold no other."""
        nodes = max(machines, queue.min_nodes, min(self.nodes, queue.max_nodes))
        turns = min(self.in_turn, queue.max_minutes // minutes)
        return Pack(queue.name, nodes, turns * minutes) if nodes >= 2 * machines or turns > 1 else None


@dataclass(frozen=True)
class Allocation:
    """What a job asks for: machines of a queue, for at most `minutes`.

    It works on `machines` of the `nodes`. `pack` is the job that it may share with others instead, with just those.
    """

    queue: str
    nodes: int
    minutes: int
    machines: int
    pack: Pack | None = None

    @property
    def node_hours(self) -> float:
        """At most, if it has a job to itself and runs until its limit."""
        return self.nodes * self.minutes / 60

    @property
    def share(self) -> float:
        """Its node-hours at most, in a shared job that is full where it may have one."""
        return (self.machines if self.pack else self.nodes) * self.minutes / 60

    @property
    def clock(self) -> str:
        """The limit as HH:MM:SS."""
        return f"{self.minutes // 60:02}:{self.minutes % 60:02}:00"


@dataclass(frozen=True)
class Scheduler:
    """The site's scheduler; kind `none`: jobs run where the workflow does. `options` are further directives."""

    kind: str = "none"
    queues: tuple[Queue, ...] = ()
    walltimes: tuple[Walltime, ...] = ()
    account: str = ""
    account_required: bool = False
    select: str = ""
    packing: Packing | None = None
    options: tuple[str, ...] = ()

    def missing_account(self) -> str:
        """What to say when no account is given where one must be; else empty."""
        if self.account_required and not self.account:
            return f"site.scheduler.account: missing; name your project there or in the environment variable {ACCOUNT}"
        return ""

    def allocate(self, machines: int, facts: Mapping[str, Any], what: str) -> Allocation | None:
        """The queue that takes a job with the fewest nodes; the first of equals. None without a scheduler.

        A queue with a minimum is asked for that many nodes, of which the job uses some. Raises UserError with all
        queues when none admits it, or when no walltime is of these facts.
        """
        if self.kind == "none":
            return None
        minutes = next((limit.minutes for limit in self.walltimes if selects(limit.where, facts)), None)
        if minutes is None:
            raise UserError(f"site.scheduler.walltimes: none is of {what}; end the list with one without where")
        fitting = [q for q in self.queues if machines <= q.max_nodes and minutes <= q.max_minutes]
        if not fitting:
            queues = ", ".join(map(str, self.queues))
            raise UserError(
                f"site.scheduler.queues: none takes {what}: {machines} nodes for {minutes} minutes; there are {queues}"
            )
        best = min(fitting, key=lambda queue: max(machines, queue.min_nodes))
        pack = self.packing.of(best, machines, minutes) if self.packing else None
        return Allocation(best.name, max(machines, best.min_nodes), minutes, machines, pack)


def parse_scheduler(values: dict[str, Any], origin: str) -> Scheduler:
    """A site file's section `scheduler`, whose schema has been checked. Raises UserError naming the key."""
    given = dict(values)
    kind = given["kind"]
    named = given.pop("account", None)
    account = _account(named) if kind != "none" else ""
    queues = tuple(
        Queue(**queue | {"max_minutes": _minutes(queue["max_minutes"])}) for queue in given.pop("queues", ())
    )
    walltimes = tuple(
        Walltime(**limit | {"minutes": _minutes(limit["minutes"])}) for limit in given.pop("walltimes", ())
    )
    options = tuple(given.pop("options", ()))
    check_options(kind, options, f"{origin}: site.scheduler.options")
    for key in ("queues", "walltimes"):
        if (kind == "none") == (key in values):
            raise UserError(
                f"{origin}: site.scheduler.{key}: " + ("kind none has no queues" if kind == "none" else "missing")
            )
    for index, queue in enumerate(queues):
        if queue.min_nodes > queue.max_nodes:
            raise UserError(f"{origin}: site.scheduler.queues[{index}].min_nodes: more than max_nodes")
    packing = given.pop("packing", None)
    if packing is not None and kind == "none":
        raise UserError(f"{origin}: site.scheduler.packing: kind none has no jobs to pack")
    if "select" in given and kind != "pbs":
        raise UserError(f"{origin}: site.scheduler.select: only PBS has one")
    return Scheduler(
        queues=queues,
        walltimes=walltimes,
        account=account,
        packing=Packing(**packing) if packing is not None else None,
        options=options,
        **given,
    )


def _account(given: str | None) -> str:
    """The account from the environment, else the site's. Raises UserError for one that a site's file could not hold."""
    if chosen := os.environ.get(ACCOUNT):
        check_at(chosen, "site", ("site", "scheduler", "account"), f"environment variable {ACCOUNT}")
        return chosen
    return given or ""


def _minutes(given: int | str) -> int:
    """Minutes, also of a text as "24:00:00" or "1-00:00:00"."""
    if isinstance(given, int):
        return given
    match = CLOCK.fullmatch(given)
    assert match is not None, "the schema has checked it"
    days, hours, minutes = (int(part or 0) for part in match.groups())
    return (days * 24 + hours) * 60 + minutes
