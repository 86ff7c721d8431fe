"""What a rule asks for: the script to run, where its output goes, and what says that it has run."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path

from snakemake_interface_executor_plugins.jobs import JobExecutorInterface

SCRIPT, ORDER, DIGEST = "batch_script", "batch_order", "batch_digest"  # resources of a rule


class RequestError(Exception):
    """A rule that this executor cannot run, in words that follow the rule's name."""


@dataclass(frozen=True)
class Request:
    """`order` is the script's place among those that are ready (None: after all others), `log` the rule's first log.

    `digest` is what the script has to be (None: whatever it is), as `task.digest_of` has it.
    """

    script: Path
    output: Path
    order: float | None
    log: Path | None
    digest: str | None = None

    @classmethod
    def of(cls, job: JobExecutorInterface) -> Request:
        """A job of Snakemake's. Raises RequestError."""
        if job.is_group():
            raise RequestError("a group of jobs is not submitted: each script is a job")
        if job.is_containerized:
            raise RequestError("a container is not used for scripts: let the script start it")
        if getattr(job, "benchmark", None):
            raise RequestError("benchmark: a script that is submitted is not measured by Snakemake")
        script = job.resources.get(SCRIPT)
        if not isinstance(script, str) or not script:
            raise RequestError(f"no resource {SCRIPT} (path of the script to submit); other rules are localrules")
        outputs = list(job.output)
        if len(outputs) != 1:
            raise RequestError("a job that is submitted has exactly one output")
        log = next(iter(job.log), None)
        digest = job.resources.get(DIGEST)
        if digest is not None and not isinstance(digest, str):
            raise RequestError(f"resource {DIGEST}: {digest!r} is no text")
        order = _order(job.resources.get(ORDER))
        return cls(_absolute(script), _absolute(outputs[0]), order, log and _absolute(log), digest)


def place_of(job: JobExecutorInterface) -> float:
    """Where a job stands among others; last of all without an order, or with one that is refused later."""
    order = None if job.is_group() else job.resources.get(ORDER)
    if isinstance(order, bool) or not isinstance(order, int | float) or math.isnan(order):
        return math.inf
    return float(order)


def _order(value: object) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
        raise RequestError(f"resource {ORDER}: {value!r} is no number")
    return float(value)


def _absolute(path: str) -> Path:
    """Links are kept: the name of the job is made from the path."""
    return Path(os.path.abspath(path))  # noqa: PTH100
