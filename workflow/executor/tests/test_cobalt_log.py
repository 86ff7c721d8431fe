"""What Cobalt leaves in a job's log, by src/lib/Components/cqm.py of Cobalt, and what is understood of it."""

from __future__ import annotations

import pytest

from snakemake_executor_plugin_batch_script.schedulers.base import Outcome
from snakemake_executor_plugin_batch_script.schedulers.cobalt import judge

HEAD = """Jobid: 7
qsub -n 8 -t 60 a.sh
Fri May 01 10:00:00 2026 +0000 (UTC) submitted with cwd set to: /home/me
jobid 7 submitted from terminal None
Fri May 01 10:00:05 2026 +0000 (UTC) Command: /home/me/a.sh
"""
STAMP = "Fri May 01 11:00:05 2026 +0000 (UTC)"
CODE = f"{STAMP} Info: task completed normally with an exit code of {{}}; initiating job cleanup and removal\n"


@pytest.mark.parametrize(
    ("lines", "outcome", "exit_code"),
    [
        ("Info: maximum execution time exceeded; initiating job termination", Outcome.WALLTIME, None),
        ("Info: maximum execution time exceeded; initiating job terminiation", Outcome.WALLTIME, None),
        ("Info: maximum execution time exceeded; initiating job cleanup and removal", Outcome.WALLTIME, None),
        ("Info: user delete requested with signal SIGTERM by user me", Outcome.CANCELLED, None),
        ("Info: user delete requested; removing job from the queue", Outcome.CANCELLED, None),
        ("Info: user delete with signal SIGTERM requested by user me; initiating job cleanup", Outcome.CANCELLED, None),
        ("Info: pending user delete; initiating job cleanup and removal", Outcome.CANCELLED, None),
        ("ERROR: execution failure; initiating job cleanup and removal", Outcome.LAUNCH_FAILED, None),
        ("Info: stdin received from /dev/null", None, None),
    ],
)
def test_ends_without_an_exit_code(lines: str, outcome: Outcome | None, exit_code: int | None) -> None:
    told = judge(f"{HEAD}{STAMP} {lines}\n", "7", "")
    assert (told.outcome, told.exit_code) == (outcome, exit_code)
    assert not told.final, "the line is written before the job is gone"


@pytest.mark.parametrize(
    ("code", "outcome"), [("0", Outcome.DONE), ("3", Outcome.FAILED), ("143", Outcome.KILLED), ("None", None)]
)
def test_ends_with_an_exit_code(code: str, outcome: Outcome | None) -> None:
    assert judge(HEAD + CODE.format(code), "7", "").outcome is outcome


def test_a_job_that_ended_by_itself_while_it_was_to_be_killed() -> None:
    killing = f"{STAMP} Info: maximum execution time exceeded; initiating job termination\n"
    told = judge(HEAD + killing + CODE.format(1), "7", "")
    assert (told.outcome, told.exit_code, told.final) == (Outcome.WALLTIME, 1, True)
