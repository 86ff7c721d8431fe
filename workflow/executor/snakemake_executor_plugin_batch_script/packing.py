"""Which scripts share one job of the scheduler: side by side on disjoint nodes, and in turn on the same ones."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from snakemake_executor_plugin_batch_script.schedulers.directives import options, value

MARK = "#BATCH_SCRIPT"


@dataclass(frozen=True)
class Request:
    """What a script states of its share of a packed job: the script of such a job (`head`), nodes, minutes at most."""

    head: Path
    nodes: int
    minutes: int


@dataclass(frozen=True)
class Room:
    """What a packed job has: nodes, and minutes from its start to its limit."""

    nodes: int
    minutes: int


@dataclass
class Pack:
    """Requests that fit into one job, in the order in which they start; `ends` is when each node is free at the latest.

    A request starts when as many nodes as it asks for are free, never before the one ahead of it. So nothing starts
    later than planned here, where each takes all of its minutes.
    """

    room: Room
    stems: list[str] = field(default_factory=list)
    started: int = 0
    ends: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.ends = [0] * self.room.nodes

    def takes(self, stem: str, request: Request) -> bool:
        """Add a request if it fits; says whether it did. Scripts of one name never share a job."""
        if stem in self.stems or request.nodes > self.room.nodes:
            return False
        free = sorted(self.ends)
        start = max(self.started, free[request.nodes - 1])
        if start + request.minutes > self.room.minutes:
            return False
        self.started = start
        self.ends = [start + request.minutes] * request.nodes + free[request.nodes :]
        self.stems.append(stem)
        return True

    @property
    def full(self) -> bool:
        """Whether not even the smallest script, one node for a minute, would fit."""
        return max(self.started, min(self.ends)) >= self.room.minutes


def request(script: Path) -> Request | None:
    """A script's own line `#BATCH_SCRIPT --pack HEAD --nodes N --minutes M`; None for one that gets a job to itself."""
    words = options(script, MARK)
    head, room = value(words, "--pack", "--pack"), _room(words)
    return Request(Path(head), room.nodes, room.minutes) if head and room else None


def room(head: Path) -> Room | None:
    """What the script of packed jobs asks for, in its line `#BATCH_SCRIPT --nodes N --minutes M`; None without one."""
    return _room(options(head, MARK))


def _room(words: list[str]) -> Room | None:
    nodes, minutes = (value(words, f"--{key}", f"--{key}") or "" for key in ("nodes", "minutes"))
    if not (nodes.isdigit() and minutes.isdigit() and int(nodes) and int(minutes)):
        return None
    return Room(int(nodes), int(minutes))


def fill(requests: Iterable[tuple[str, Request]], room: Room) -> list[tuple[Pack, list[int]]]:
    """Packs of requests (of one head, with the stems of their scripts), and which of them are in each, by position.

    In order, each into the first pack that takes it. One that is larger than the room gets no pack.
    """
    packs: list[tuple[Pack, list[int]]] = []
    for position, (stem, wanted) in enumerate(requests):
        for pack, members in packs:
            if pack.takes(stem, wanted):
                members.append(position)
                break
        else:
            pack = Pack(room)
            if pack.takes(stem, wanted):
                packs.append((pack, [position]))
    return packs


def shares(scripts: Sequence[Path]) -> tuple[list[list[Path]], list[list[Path]]]:
    """Divide scripts, given in the order in which they should start, into jobs.

    Returns the jobs that are to be submitted now (scripts that get one to themselves, full packs) and those that more
    scripts could still join, each in the order of their first scripts.
    """
    alone: list[tuple[int, list[Path]]] = []
    by_head: dict[tuple[Path, Path], list[tuple[int, Request]]] = {}  # and by the scripts' folder
    rooms: dict[Path, Room | None] = {}  # each head is read once
    for position, script in enumerate(scripts):
        wanted = request(script)
        if wanted and wanted.head not in rooms:
            rooms[wanted.head] = room(wanted.head)
        if wanted and rooms[wanted.head]:
            by_head.setdefault((wanted.head, script.parent), []).append((position, wanted))
        else:
            alone.append((position, [script]))
    now = alone
    later: list[tuple[int, list[Path]]] = []
    for (head, _), members in by_head.items():
        has = rooms[head]
        packed: set[int] = set()
        for pack, chosen in fill([(scripts[i].stem, wanted) for i, wanted in members], has) if has else []:
            positions = [members[i][0] for i in chosen]
            packed.update(positions)
            (now if pack.full else later).append((positions[0], [scripts[i] for i in positions]))
        now += [(i, [scripts[i]]) for i, _ in members if i not in packed]
    return [job for _, job in sorted(now)], [job for _, job in sorted(later)]
