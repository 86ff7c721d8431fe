"""Benchmarks of a campaign: which training steps are compared, with whom, and where each comparison is kept."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any
from urllib.parse import quote

from bnn.bench.implementations import choose
from bnn.errors import UserError
from bnn.models.describe import MODELS
from bnn.records.bench import BenchHeader, header_path
from bnn.records.columns import is_whole
from bnn.records.files import JOB_LABEL
from bnn.records.reading import read_record
from campaign.ask.validate import USER_MODEL
from campaign.io import unreadable
from campaign.io.schema import did_you_mean
from campaign.jobs.job import Job
from campaign.names.commands import BENCH
from campaign.names.layout import Layout
from campaign.site.allocation import Allocation
from campaign.site.launchers import Placement
from campaign.site.site import Site

ROUNDS = 6
BENCH_TARGET = "peer_comparison"  # the one target of the workflow that measures them


@dataclass(frozen=True)
class BenchJob(Job):
    """One interleaved run: training steps of a model at a batch size, by our implementations and the peers.

    No `implementations` means all of ours. `launch` is a hash of the site's environment, as a cell has one.
    """

    COMMAND = SECTION = TEMPLATE = BENCH
    NOUN = "benchmarks"
    RECORD = "bench/step/{model}/batch={batch}.parquet"
    LOG = "bench/{model}_b{batch}"

    model: str
    batch: int
    placement: Placement
    rounds: int
    implementations: tuple[str, ...]
    peers: tuple[str, ...]
    launch: str
    allocation: Allocation | None = None
    target: str = BENCH_TARGET

    @property
    def name(self) -> str:
        return f"bench_step_{self.word}_b{self.batch}"

    @property
    def words(self) -> dict[str, str]:
        return {"model": self.word, "batch": str(self.batch)}

    @property
    def word(self) -> str:
        """The model as one path component."""
        return quote(self.model, safe="-_.")

    @property
    def threads(self) -> int:
        return self.placement.threads

    @property
    def measures(self) -> list[str]:
        """Options that say what is measured."""
        words = ["--model", self.model, "--batch", self.batch, "--threads", self.threads, "--rounds", self.rounds]
        if self.implementations:
            words += ["--implementations", ",".join(self.implementations)]
        if self.peers:
            words += ["--peers", ",".join(self.peers)]
        return [str(word) for word in words]

    @property
    def options(self) -> list[str]:
        """What `bnn bench step` is told, except where to write."""
        return [*self.measures, "--labels", json.dumps({JOB_LABEL: self.fingerprint})]

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256(json.dumps([self.measures, self.launch]).encode()).hexdigest()[:16]

    def context(self, layout: Layout, site: Site) -> dict[str, Any]:
        return {"record": self.record(layout)}

    def plan_entry(self, site: str) -> dict[str, Any]:
        return {
            "name": self.name,
            "model": self.model,
            "batch": self.batch,
            "threads": self.threads,
            "rounds": self.rounds,
            "implementations": list(self.implementations),
            "peers": list(self.peers),
            "options": self.measures,
            "fingerprint": self.fingerprint,
            "record": f"{site}/{self.RECORD.format(**self.words)}",
        }

    def is_current(self, layout: Layout) -> bool:
        return self._made(layout) is not None

    def is_damaged(self, layout: Layout) -> bool:
        """Whether its rows are there and they or their header are not what they should be."""
        record = self.record(layout)
        if not record.exists():
            return False
        header = header_path(record)
        return not header.exists() or unreadable.is_damaged(header, BenchHeader) or not is_whole(record)

    def seconds(self, layout: Layout) -> float | None:
        header = self._made(layout)
        return header.stopped_at - header.started_at if header else None

    def _made(self, layout: Layout) -> BenchHeader | None:
        """Its header, if what was measured is as the plan asks and all of it is there."""
        record = self.record(layout)
        if not record.exists() or not is_whole(record):
            return None
        header = read_record(header_path(record), BenchHeader)
        return header if header and tells_of(header, self.fingerprint, self.measures) else None


def parse_bench(values: dict[str, Any] | None, origin: str, site: Site) -> tuple[BenchJob, ...]:
    """The benchmarks of a campaign's section `bench`, in the order in which they run; none without that section.

    Raises UserError with one line naming the key of an unknown model or implementation and of too many threads.
    """
    if not values:
        return ()
    for index, model in enumerate(values["models"]):
        if model not in MODELS and not USER_MODEL.fullmatch(model):
            hint = did_you_mean(model, MODELS)
            raise UserError(f"{origin}.models[{index}]: unknown model {model!r}{hint} or package.module:function")
    placement = site.alone(values.get("threads"), origin)
    named, peers = tuple(values.get("implementations", ())), tuple(values.get("peers", ()))
    try:
        choose("step", named, peers)
    except UserError as error:
        raise UserError(f"{origin}.{str(error).removeprefix('--')}") from None
    launch = site.environment_hash
    rounds = values.get("rounds", ROUNDS)
    return tuple(
        BenchJob(
            model, batch, placement, rounds, named, peers, launch,
            site.allocate(1, {"jobs": "bench", "models": model, "batch_sizes": batch}, f"bench of {model}"),
        )
        for model, batch in product(values["models"], values["batch_sizes"])
    )  # fmt: skip


def tells_of(header: BenchHeader, fingerprint: str, measures: Sequence[str]) -> bool:
    """Whether a benchmark's header is of the job with this fingerprint.

    One without labels, of a time when there were none, is if it was measured with exactly these options
    (BenchJob.measures): how it was launched it does not tell.
    """
    if header.labels is not None:
        return bool(header.labels.get(JOB_LABEL) == fingerprint)
    if "step" not in header.command:
        return False
    given = header.command[header.command.index("step") + 1 :]
    if "--out" in given:
        at = given.index("--out")
        given = given[:at] + given[at + 2 :]
    return given == list(measures)
