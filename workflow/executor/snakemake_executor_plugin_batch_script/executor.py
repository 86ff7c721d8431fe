"""The executor: hands Snakemake's jobs to the tracker and its results back to Snakemake."""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

from snakemake_interface_common.exceptions import WorkflowError
from snakemake_interface_executor_plugins.executors.base import SubmittedJobInfo
from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor
from snakemake_interface_executor_plugins.jobs import JobExecutorInterface

from snakemake_executor_plugin_batch_script.closing import closing_table
from snakemake_executor_plugin_batch_script.contact import Limits, SilenceError
from snakemake_executor_plugin_batch_script.journal import Journals
from snakemake_executor_plugin_batch_script.schedulers import SCHEDULERS
from snakemake_executor_plugin_batch_script.task import Result
from snakemake_executor_plugin_batch_script.tracking import Tracker

BEGAN = time.time()  # Snakemake loads its plugins before it looks at any file
TICK = 0.5  # seconds between two looks at what is due; the scheduler is asked far less often


class Executor(RemoteExecutor):
    """Submits the file that a rule has as its input `job`; the rule's only output says that it is done.

    Snakemake's scheduler thread only adds jobs; all commands run in the base class's polling thread.
    """

    def __post_init__(self) -> None:
        settings = self.workflow.executor_settings
        if settings.scheduler not in SCHEDULERS:
            kinds = ", ".join(SCHEDULERS)
            raise WorkflowError(f"--batch-script-scheduler: {settings.scheduler or 'missing'} (choose one of {kinds})")
        scheduler = SCHEDULERS[settings.scheduler]()
        if missing := [program for program in scheduler.programs if shutil.which(program) is None]:
            raise WorkflowError(f"--batch-script-scheduler {settings.scheduler}: no {', '.join(missing)} on the PATH")
        if settings.retries < 0 or settings.patience < 0 or (settings.poll is not None and settings.poll <= 0):
            raise WorkflowError(
                "--batch-script-retries, --batch-script-patience: not below 0; --batch-script-poll: above 0"
            )
        if settings.gather < 0 or (settings.slots is not None and settings.slots < 1):
            raise WorkflowError("--batch-script-gather: not below 0; --batch-script-slots: at least 1")
        usual = self.workflow.remote_execution_settings.seconds_between_status_checks
        limits = Limits(
            poll=float(usual if settings.poll is None else settings.poll),
            retries=settings.retries,
            patience=60.0 * settings.patience,
            latency=float(self.workflow.execution_settings.latency_wait),
            gather=settings.gather,
            slots=settings.slots,
        )
        self._names: dict[str, SubmittedJobInfo] = {}
        self._results: dict[str, Result] = {}
        self._gave_up = False
        self._closed = False
        self._tracker = Tracker(scheduler, Journals(settings.journal), limits, self.logger.info, since=BEGAN)

    def run_job(self, job: JobExecutorInterface) -> None:
        """Accept a job; it is submitted by the polling thread."""
        info = SubmittedJobInfo(job)
        # as a resource where the script is written after Snakemake has built its graph, else as an input
        named = None if job.is_group() else job.resources.get("batch_script", getattr(job.input, "job", None))
        script = str(named) if isinstance(named, str) else None
        if not isinstance(script, str):
            self.report_job_error(info, msg=f"{job.name}: no input named job (the script to submit), or a group. ")
            return
        if len(list(job.output)) != 1:
            self.report_job_error(info, msg=f"{job.name}: a job that is submitted has exactly one output. ")
            return
        path = Path(os.path.abspath(script))  # noqa: PTH100 (links are kept: the name of the job is made from it)
        output = Path(os.path.abspath(next(iter(job.output))))  # noqa: PTH100
        # Snakemake may be waiting for this lock to hand over results: only taken for a moment
        with self.lock:
            twin = next((known for known in self._names.values() if known.aux["script"] == path), None)
            if twin is None:
                info.aux = {"script": path}
                self._names[self._tracker.add(path, output, getattr(job, "priority", 0))] = info
        if twin:
            self.report_job_error(info, msg=f"{path} is already the script of another job ({twin.job.name}). ")
            return
        self.report_job_submission(info)

    async def check_active_jobs(self, active_jobs: list[SubmittedJobInfo]) -> AsyncGenerator[SubmittedJobInfo, None]:
        """Let the tracker do what is due and tell Snakemake what has ended."""
        if not self._gave_up:
            try:
                self._results |= self._tracker.step()
            except SilenceError as error:
                self._gave_up = True
                self.workflow.scheduler.executor_error_callback(WorkflowError(str(error)))
        names = {id(info): name for name, info in self._names.items()}
        for info in active_jobs:
            name = names.get(id(info))
            result = self._results.pop(name, None) if name else None
            if result is None or name is None:
                yield info
                continue
            with self.lock:
                del self._names[name]
            self._report(info, result)

    def _report(self, info: SubmittedJobInfo, result: Result) -> None:
        info.external_jobid = result.job
        if result.done:
            self.report_job_success(info)
        else:
            logs = [str(result.log)] if result.log else []
            self.report_job_error(info, msg=f"{result.sentence}. ", aux_logs=logs)

    async def sleep(self) -> None:
        """Until the next look at what is due."""
        await asyncio.sleep(TICK)

    def cancel(self) -> None:
        """Ctrl-C: let the command that is under way end, then cancel all jobs."""
        self._tracker.stop()
        with self.lock:
            self.wait = False
        self.wait_thread.join()
        self.cancel_jobs([])
        self.shutdown()

    def cancel_jobs(self, active_jobs: list[SubmittedJobInfo]) -> None:
        """All of them: the base class's list lacks those that are being looked at."""
        self._tracker.cancel()

    def shutdown(self) -> None:
        """Stop polling and say how all jobs ended."""
        super().shutdown()
        if not self._closed and (table := closing_table(self._tracker.results)):
            self._closed = True
            self.logger.info(table)

    def print_job_error(self, job_info: SubmittedJobInfo, msg: str | None = None, **kwargs: Any) -> None:
        if job_info.external_jobid is not None:
            kwargs["external_jobid"] = job_info.external_jobid
        job_info.job.log_error(msg, **kwargs)
