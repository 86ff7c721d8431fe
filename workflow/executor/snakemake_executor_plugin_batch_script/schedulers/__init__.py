"""Schedulers: what they have in common (base), how their commands are run (commands), and one module for each."""

from __future__ import annotations

from collections.abc import Callable

from snakemake_executor_plugin_batch_script.schedulers.base import Scheduler
from snakemake_executor_plugin_batch_script.schedulers.cobalt import Cobalt
from snakemake_executor_plugin_batch_script.schedulers.machine import Machine
from snakemake_executor_plugin_batch_script.schedulers.pbs import Pbs
from snakemake_executor_plugin_batch_script.schedulers.slurm import Slurm

NONE = "none"  # no scheduler: scripts run on this machine, one at a time
SCHEDULERS: dict[str, Callable[[], Scheduler]] = {"slurm": Slurm, "pbs": Pbs, "cobalt": Cobalt, NONE: Machine}
