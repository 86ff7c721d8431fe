"""What the options make of a driver's limits."""

from __future__ import annotations

import pytest
from snakemake_interface_common.exceptions import WorkflowError

from snakemake_executor_plugin_batch_script import ExecutorSettings, options
from snakemake_executor_plugin_batch_script.options import limits_of


def test_snakemakes_own_interval_counts_where_none_is_given() -> None:
    settings = ExecutorSettings(scheduler="slurm", slots=7, patience=2, retries=1)
    limits = limits_of(settings, usual_poll=30, latency=4)
    assert (limits.poll, limits.slots, limits.patience, limits.retries, limits.latency) == (30, 7, 120, 1, 4)
    assert not limits.immediate
    assert limits_of(ExecutorSettings(scheduler="pbs", poll=3), usual_poll=30, latency=4).poll == 3


@pytest.mark.parametrize(("told", "poll"), [(True, 30), (False, 1)])
def test_on_this_machine_one_runs_at_a_time(monkeypatch: pytest.MonkeyPatch, told: bool, poll: float) -> None:
    """Where the kernel does not tell of ends, they are looked for once a second."""
    monkeypatch.setattr(options, "can_watch", lambda: told)
    limits = limits_of(ExecutorSettings(scheduler="none"), usual_poll=30, latency=4)
    assert (limits.slots, limits.immediate, limits.poll) == (1, True, poll)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (ExecutorSettings(), "--batch-script-scheduler: missing"),
        (ExecutorSettings(scheduler="lsf"), "lsf .choose one of slurm, pbs, cobalt, none"),
        (ExecutorSettings(scheduler="slurm", poll=0), "--batch-script-poll: above 0"),
        (ExecutorSettings(scheduler="slurm", gather=-1), "--batch-script-gather: not below 0"),
        (ExecutorSettings(scheduler="slurm", slots=0), "--batch-script-slots: at least 1"),
        (ExecutorSettings(scheduler="none", slots=2), "--batch-script-slots: 1 with"),
    ],
)
def test_slips_name_the_option(settings: ExecutorSettings, words: str) -> None:
    with pytest.raises(WorkflowError, match=words):
        limits_of(settings, usual_poll=30, latency=4)
