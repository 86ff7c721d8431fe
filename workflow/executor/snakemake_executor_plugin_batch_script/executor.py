"""The executor: hands Snakemake's jobs to the tracker and its results back to Snakemake."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import time
from collections.abc import AsyncGenerator
from contextlib import suppress
from typing import Any

from snakemake_interface_common.exceptions import WorkflowError
from snakemake_interface_executor_plugins.executors.base import SubmittedJobInfo
from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor
from snakemake_interface_executor_plugins.jobs import JobExecutorInterface

from snakemake_executor_plugin_batch_script.closing import closing_table
from snakemake_executor_plugin_batch_script.contact import SilenceError
from snakemake_executor_plugin_batch_script.journal import Journals
from snakemake_executor_plugin_batch_script.options import limits_of
from snakemake_executor_plugin_batch_script.request import ORDER, SCRIPT, Request, RequestError, place_of
from snakemake_executor_plugin_batch_script.schedulers import NONE, SCHEDULERS
from snakemake_executor_plugin_batch_script.task import Result
from snakemake_executor_plugin_batch_script.tracking import Tracker

BEGAN = time.time()  # Snakemake loads its plugins before it looks at any file


class Executor(RemoteExecutor):
    """Submits the script that a rule names as its resource `batch_script`; the rule's only output says that it is done.

    Snakemake's scheduler thread only adds jobs; all commands run in the base class's polling thread.
    """

    _tracker: Tracker | None = None  # the base class starts its thread before __post_init__ has run
    _loop: asyncio.AbstractEventLoop | None = None

    def __post_init__(self) -> None:
        settings = self.workflow.executor_settings
        limits = limits_of(
            settings,
            usual_poll=float(self.workflow.remote_execution_settings.seconds_between_status_checks),
            latency=float(self.workflow.execution_settings.latency_wait),
        )
        scheduler = SCHEDULERS[settings.scheduler]()
        if missing := [program for program in scheduler.programs if shutil.which(program) is None]:
            raise WorkflowError(f"--batch-script-scheduler {settings.scheduler}: no {', '.join(missing)} on the PATH")
        self._here = settings.scheduler == NONE
        self._names: dict[str, SubmittedJobInfo] = {}
        self._results: dict[str, Result] = {}
        self._gave_up = self._closed = self._greeted = False
        self._woken = asyncio.Event()
        self._tracker = Tracker(scheduler, Journals(settings.journal), limits, self.logger.info, since=BEGAN)

    def run_jobs(self, jobs: list[JobExecutorInterface]) -> None:
        """Those that are ready, in their order: the first one may start before the others have been taken in."""
        super().run_jobs(sorted(jobs, key=place_of))

    def run_job(self, job: JobExecutorInterface) -> None:
        """Accept a job; it is submitted by the polling thread."""
        assert self._tracker is not None
        self._greet()
        info = SubmittedJobInfo(job)
        try:
            request = Request.of(job)
        except RequestError as error:
            if job.is_group():  # of which Snakemake shows no message
                self.logger.error(f"{job.name}: {error}")
            self.report_job_error(info, msg=f"{job.name}: {error}. ")
            return
        # Snakemake may be waiting for this lock to hand over results: only taken for a moment
        with self.lock:
            twin = next((known for known in self._names.values() if known.aux["script"] == request.script), None)
            if twin is None:
                info.aux = {"script": request.script}
                name = self._tracker.add(request.script, request.output, request.order, request.log, request.digest)
                self._names[name] = info
        if twin:
            self.report_job_error(
                info, msg=f"{request.script} is already the script of another job ({twin.job.name}). "
            )
            return
        self.report_job_submission(info)
        self._wake()

    def _greet(self) -> None:
        """With the first job: what becomes of it, and of us on this machine when we are told to end."""
        if self._greeted:
            return
        self._greeted = True
        self.logger.info(
            f"Jobs are the scripts that rules name as {SCRIPT}, in the order of {ORDER}: nothing else of a rule (shell,"
            " script, threads, resources, conda) reaches them."
        )
        if self._here:
            with suppress(ValueError):  # not in the main thread: whoever runs Snakemake there ends it otherwise
                signal.signal(signal.SIGTERM, _interrupt)

    async def check_active_jobs(self, active_jobs: list[SubmittedJobInfo]) -> AsyncGenerator[SubmittedJobInfo, None]:
        """Let the tracker do what is due and tell Snakemake what has ended."""
        if self._tracker and not self._gave_up:
            try:
                self._results |= self._tracker.step()
            except SilenceError as error:
                self._gave_up = True
                self.workflow.scheduler.executor_error_callback(WorkflowError(str(error)))
        names = {id(info): name for name, info in self._names.items()} if self._tracker else {}
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
            return
        known = {os.path.abspath(log) for log in info.job.log}  # noqa: PTH100 (Snakemake shows these by itself)
        logs = [str(result.log)] if result.log and os.path.abspath(result.log) not in known else []  # noqa: PTH100
        self.report_job_error(info, msg=f"{result.sentence}. ", aux_logs=logs)

    async def sleep(self) -> None:
        """Until something is due, a job is added, or one that can be watched has ended."""
        if self._tracker is None:
            await asyncio.sleep(1)
            return
        self._loop = asyncio.get_running_loop()
        watched = [] if self._gave_up else self._tracker.watched()
        ended = []

        def end(descriptor: int) -> None:
            ended.append(descriptor)
            self._woken.set()

        for descriptor in watched:
            self._loop.add_reader(descriptor, end, descriptor)
        try:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._woken.wait(), 1.0 if self._gave_up else self._tracker.idle())
        finally:
            for descriptor in watched:
                self._loop.remove_reader(descriptor)
        self._woken.clear()
        if ended:
            self._tracker.hasten(ended)

    def _wake(self) -> None:
        """End `sleep`, from another thread."""
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(self._woken.set)

    def cancel(self) -> None:
        """Ctrl-C: let the command that is under way end, then cancel all jobs."""
        if self._tracker:
            self._tracker.stop()
        self._end_polling()
        self.cancel_jobs([])
        self.shutdown()

    def cancel_jobs(self, active_jobs: list[SubmittedJobInfo]) -> None:
        """All of them: the base class's list lacks those that are being looked at."""
        if self._tracker:
            self._tracker.cancel()

    def shutdown(self) -> None:
        """Stop polling and say how all jobs ended."""
        self._end_polling()
        super().shutdown()
        if self._tracker and not self._closed and (table := closing_table(self._tracker.results)):
            self._closed = True
            self.logger.info(table)

    def _end_polling(self) -> None:
        with self.lock:
            self.wait = False
        self._wake()
        self.wait_thread.join()

    def print_job_error(self, job_info: SubmittedJobInfo, msg: str | None = None, **kwargs: Any) -> None:
        if job_info.external_jobid is not None:
            kwargs["external_jobid"] = job_info.external_jobid
        job_info.job.log_error(msg, **kwargs)


def _interrupt(number: int, frame: object) -> None:
    """SIGTERM as Ctrl-C: Snakemake's own handler would wait for all jobs that were accepted, which here are all."""
    raise KeyboardInterrupt
