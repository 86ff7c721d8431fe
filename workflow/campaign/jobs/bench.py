"""Benchmarks of a campaign: which training steps are compared, with whom, and where each comparison is kept."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any
from urllib.parse import quote

from pydantic import ValidationError

from bnn.bench.implementations import choose
from bnn.errors import UserError
from bnn.models.describe import MODELS
from bnn.records.bench import BenchHeader, header_path
from bnn.records.columns import is_whole
from campaign.ask.validate import USER_MODEL
from campaign.io import unreadable
from campaign.io.schema import did_you_mean
from campaign.names.layout import Layout
from campaign.site.allocation import Allocation
from campaign.site.site import Site

ROUNDS = 6


@dataclass(frozen=True)
class BenchPoint:
    """One interleaved run: training steps of a model at a batch size, by our implementations and the peers.

    No `implementations` means all of ours. `launch` is a hash of the site's environment, as a cell has one.
    """

    model: str
    batch: int
    threads: int
    rounds: int
    implementations: tuple[str, ...]
    peers: tuple[str, ...]
    launch: str
    allocation: Allocation | None = None

    @property
    def name(self) -> str:
        """Unique within the site, for scripts and logs."""
        return f"bench_step_{self.word}_b{self.batch}"

    @property
    def word(self) -> str:
        """The model as one path component."""
        return quote(self.model, safe="-_.")

    @property
    def options(self) -> list[str]:
        """What `bnn bench step` is told, except where to write."""
        words = ["--model", self.model, "--batch", self.batch, "--threads", self.threads, "--rounds", self.rounds]
        if self.implementations:
            words += ["--implementations", ",".join(self.implementations)]
        if self.peers:
            words += ["--peers", ",".join(self.peers)]
        return [str(word) for word in words]

    @property
    def fingerprint(self) -> str:
        """Hash of what is measured and how it is launched: another one makes it run again."""
        return hashlib.sha256(json.dumps([self.options, self.launch]).encode()).hexdigest()[:16]


def parse_bench(values: dict[str, Any] | None, origin: str, site: Site) -> tuple[BenchPoint, ...]:
    """The points of a campaign's section `bench`, in the order in which they run; none without that section.

    Raises UserError with one line naming the key of an unknown model or implementation and of too many threads.
    """
    if not values:
        return ()
    for index, model in enumerate(values["models"]):
        if model not in MODELS and not USER_MODEL.fullmatch(model):
            hint = did_you_mean(model, MODELS)
            raise UserError(f"{origin}.models[{index}]: unknown model {model!r}{hint} or package.module:function")
    threads = site.threads_of_job(values.get("threads"), origin)
    named, peers = tuple(values.get("implementations", ())), tuple(values.get("peers", ()))
    try:
        choose("step", named, peers)
    except UserError as error:
        raise UserError(f"{origin}.{str(error).removeprefix('--')}") from None
    launch = site.environment_hash
    rounds = values.get("rounds", ROUNDS)
    return tuple(
        BenchPoint(
            model, batch, threads, rounds, named, peers, launch,
            site.allocate(1, {"jobs": "bench", "models": model, "batch_sizes": batch}, f"bench of {model}"),
        )
        for model, batch in product(values["models"], values["batch_sizes"])
    )  # fmt: skip


def plan_entry(point: BenchPoint, site: str) -> dict[str, Any]:
    """What plan.json says of a point; `record` is relative to the results folder."""
    return {
        "name": point.name,
        "model": point.model,
        "batch": point.batch,
        "threads": point.threads,
        "rounds": point.rounds,
        "implementations": list(point.implementations),
        "peers": list(point.peers),
        "options": point.options,
        "fingerprint": point.fingerprint,
        "record": Layout(Path(), site).bench(point.word, point.batch).as_posix(),
    }


def tells_of(header: BenchHeader, options: Sequence[str]) -> bool:
    """Whether a benchmark's header is of a run with exactly these options (BenchPoint.options)."""
    if "step" not in header.command:
        return False
    given = header.command[header.command.index("step") + 1 :]
    if "--out" in given:
        at = given.index("--out")
        given = given[:at] + given[at + 2 :]
    return given == list(options)


def is_current(point: BenchPoint, layout: Layout) -> bool:
    """Whether the point has been measured with the options that the plan asks for."""
    record = layout.bench(point.word, point.batch)
    if not record.exists():
        return False
    try:
        header = BenchHeader.model_validate_json(header_path(record).read_bytes())
    except (OSError, ValidationError):
        return False
    return tells_of(header, point.options)


def is_damaged(point: BenchPoint, layout: Layout) -> bool:
    """Whether the point's rows are there and they or their header are not what they should be."""
    record = layout.bench(point.word, point.batch)
    if not record.exists():
        return False
    header = header_path(record)
    return not header.exists() or unreadable.is_damaged(header, BenchHeader) or not is_whole(record)
