"""Work that another process does meanwhile."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.connection import Connection

from bnn.errors import UserError

MANY = 48  # cells from which on more processes than one are worth their start


@contextmanager
def beside(work: Callable[[], object], worth_it: bool = True) -> Iterator[None]:
    """Do `work` while the block runs, in a process of its own; it is done when the block ends.

    The process is forked, so that what it works on need not be handed over. Where it is not worth one, or there is one
    core only, the work is done first. Raises UserError as the work does, RuntimeError for whatever else ends it.
    """
    if not worth_it or len(os.sched_getaffinity(0)) < 2:
        work()
        yield
        return
    context = get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_done, args=(work, theirs))
    process.start()
    theirs.close()
    try:
        yield
    except BaseException:
        process.kill()  # whatever handlers it was forked with
        process.join()
        raise
    try:
        said = ours.recv()
    except EOFError:
        process.join()
        raise RuntimeError(f"what was done beside ended with exit code {process.exitcode}") from None
    process.join()
    if said is not None:
        raise UserError(said)


def _done(work: Callable[[], object], pipe: Connection) -> None:
    try:
        work()
    except UserError as error:
        pipe.send(str(error))
    else:
        pipe.send(None)
