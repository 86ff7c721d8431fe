"""The options --batch-script-NAME, checked, as limits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from snakemake_interface_common.exceptions import WorkflowError

from snakemake_executor_plugin_batch_script.contact import Limits
from snakemake_executor_plugin_batch_script.schedulers import NONE, SCHEDULERS
from snakemake_executor_plugin_batch_script.schedulers.processes import PROC, can_watch

if TYPE_CHECKING:
    from snakemake_executor_plugin_batch_script import ExecutorSettings

POLL_UNWATCHED = 1.0  # seconds, on this machine where the kernel cannot tell when a script has ended


def limits_of(settings: ExecutorSettings, usual_poll: float, latency: float) -> Limits:
    """Limits by the options; `usual_poll` is Snakemake's own option. Raises WorkflowError."""
    if settings.scheduler not in SCHEDULERS:
        kinds = ", ".join(SCHEDULERS)
        raise WorkflowError(f"--batch-script-scheduler: {settings.scheduler or 'missing'} (choose one of {kinds})")
    if settings.retries < 0 or settings.patience < 0 or (settings.poll is not None and settings.poll <= 0):
        raise WorkflowError(
            "--batch-script-retries, --batch-script-patience: not below 0; --batch-script-poll: above 0"
        )
    if settings.gather < 0 or (settings.slots is not None and settings.slots < 1):
        raise WorkflowError("--batch-script-gather: not below 0; --batch-script-slots: at least 1")
    poll, slots, here = settings.poll or usual_poll, settings.slots, settings.scheduler == NONE
    if here:
        if slots not in (None, 1):
            raise WorkflowError("--batch-script-slots: 1 with --batch-script-scheduler none, which runs one at a time")
        if not (PROC / "self" / "stat").exists():
            raise WorkflowError("--batch-script-scheduler none: needs Linux's /proc to find scripts again")
        slots, poll = 1, poll if can_watch() else min(poll, POLL_UNWATCHED)
    return Limits(
        poll=poll,
        retries=settings.retries,
        patience=60.0 * settings.patience,
        latency=latency,
        gather=settings.gather,
        slots=slots,
        immediate=here,
    )
