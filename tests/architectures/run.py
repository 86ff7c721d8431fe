"""Runs architectures in processes of their own, one core each."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from typing import Any

Outcomes = list[dict[str, Any]]


def prepare() -> None:
    import logging
    import warnings

    import torch

    warnings.simplefilter("ignore")  # torchvision's and timm's own
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)


def one(name: str) -> Outcomes:
    from tests.architectures.stages import outcomes
    from tests.architectures.table import ARCHITECTURES

    return outcomes(ARCHITECTURES[name])


def pool(jobs: int | None = None) -> ProcessPoolExecutor:
    """Processes that begin anew: nothing of ours is in them. As many as there are cores, two at least, four at most."""
    cores = len(os.sched_getaffinity(0))
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(jobs or max(2, min(4, cores)), context, prepare)


def submitted(names: Iterable[str], executor: ProcessPoolExecutor) -> dict[str, Future[Outcomes]]:
    return {name: executor.submit(one, name) for name in names}


def results(names: Iterable[str], jobs: int) -> Iterator[tuple[str, Outcomes]]:
    """The outcomes of these architectures, in order."""
    with pool(jobs) as executor:
        for name, future in submitted(names, executor).items():
            yield name, future.result()
