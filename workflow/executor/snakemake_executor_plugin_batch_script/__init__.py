"""Snakemake executor: submits a rule's ready batch script to Slurm, PBS Pro or Cobalt, or runs it on this machine, and
follows it to its end."""

# (No postponed annotations here: Snakemake reads the settings' types.)
from dataclasses import dataclass, field
from pathlib import Path
from typing import Optional

from snakemake_interface_executor_plugins.settings import CommonSettings, ExecutorSettingsBase

from snakemake_executor_plugin_batch_script.executor import Executor
from snakemake_executor_plugin_batch_script.schedulers import SCHEDULERS

__all__ = ["Executor", "ExecutorSettings", "common_settings"]


@dataclass
class ExecutorSettings(ExecutorSettingsBase):
    """The options --batch-script-NAME, as Snakemake reads them from the command line or a profile."""

    scheduler: Optional[str] = field(  # noqa: UP045 (Snakemake understands Optional only)
        default=None,
        metadata={
            "help": "Scheduler that jobs are submitted to; none: they run on this machine, one at a time",
            "required": True,
            "choices": list(SCHEDULERS),
        },
    )
    retries: int = field(
        default=2,
        metadata={"help": "How often a job that failed is submitted again", "required": False},
    )
    poll: Optional[float] = field(  # noqa: UP045
        default=None,
        metadata={
            "help": "Seconds between two polls of all jobs (default: --seconds-between-status-checks)",
            "required": False,
            "type": float,
        },
    )
    patience: float = field(
        default=60.0,
        metadata={"help": "Minutes that a scheduler may be silent before the run ends", "required": False},
    )
    gather: float = field(
        default=10.0,
        metadata={"help": "Seconds that a packed job with room left waits for another script", "required": False},
    )
    slots: Optional[int] = field(  # noqa: UP045
        default=None,
        metadata={
            "help": "Jobs that the scheduler may have at once (default: any number)",
            "required": False,
            "type": int,
        },
    )
    journal: Optional[Path] = field(  # noqa: UP045
        default=None,
        metadata={
            "help": "File that events are appended to (default: .journal.jsonl beside the scripts)",
            "required": False,
            "type": Path,
        },
    )


common_settings = CommonSettings(
    non_local_exec=True,
    implies_no_shared_fs=False,
    job_deploy_sources=False,
    pass_default_storage_provider_args=False,
    pass_default_resources_args=False,
    pass_envvar_declarations_to_cmd=False,
    auto_deploy_default_storage_provider=False,
    # The base class starts its thread before __post_init__ has run.
    init_seconds_before_status_checks=1,
)
