"""The emulated server of one EMULATOR_HOME: gives nodes to jobs, runs their scripts and ends them."""

import os
import signal
import subprocess
import time
from pathlib import Path
from types import ModuleType
from typing import IO

from tests.emulators import core, processes
from tests.emulators.core import Job

STEP_S = 0.02
DOOMS = ("vanish", "node_fail", "kill_signal", "oom")
BUSY = ("starting", "running", "killing", "exiting")  # states of jobs that have nodes


def flavour(kind: str) -> ModuleType:
    """The module of a kind: environment(), command(), workdir(), files(), started(), ended(), WORDS."""
    if kind == "cobalt":
        from tests.emulators import cobalt as module
    elif kind == "pbs":
        from tests.emulators import pbs as module  # type: ignore[no-redef]
    else:
        from tests.emulators import slurm as module  # type: ignore[no-redef]
    return module


class Server:
    """Jobs by number, and the script's process of those that run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.jobs: dict[int, Job] = {}
        self.running: dict[int, subprocess.Popen[bytes]] = {}

    def mark(self, job: Job) -> str:
        """What the environment of a job's processes carries."""
        return f"{self.folder}:{job['number']}"

    def save(self, job: Job, state: str) -> None:
        """A job's new state, for all to read."""
        job["state"] = state
        core.write_json(self.folder / "jobs" / f"{job['number']}.json", job)

    def step(self) -> None:
        """One round over all jobs."""
        self.settings = core.settings(self.folder)
        for path in (self.folder / "jobs").glob("[0-9]*.json"):
            number = int(path.stem)
            if number not in self.jobs:
                self.jobs[number] = core.read_json(path)
        self.deletions()
        now = time.time()
        self.free = self.settings["nodes"] - sum(job["nodes"] for job in self.jobs.values() if job["state"] in BUSY)
        for job in sorted(self.jobs.values(), key=lambda job: job["number"]):
            match job["state"]:
                case "queued" | "held":
                    self.waiting(job, now)
                case "starting":
                    if now >= job["started_at"] + self.settings["starting_s"]:
                        self.launch(job)
                case "running" | "killing":
                    self.watch(job, now)
                case "exiting":
                    if now >= job["ended_at"] + self.settings["exiting_s"]:
                        self.forget(job, remember=self.settings["history"])

    def deletions(self) -> None:
        """What users asked to end."""
        for path in (self.folder / "requests").glob("[0-9]*.json"):
            request = core.read_json(path)
            path.unlink()
            job = self.jobs.get(int(path.stem))
            if job is None or job["state"] in ("killing", "exiting"):
                continue
            job["reason"], job["deleted_by"] = "deleted", request["by"]
            if job["state"] in ("queued", "held", "starting"):
                flavour(job["kind"]).word(job, "deleted")
                self.ended(job, None)
            else:
                self.kill(job, "deleted")

    def waiting(self, job: Job, now: float) -> None:
        """Holds, releases, or starts a job that waits."""
        hold = self.settings.get("hold") or []
        held = job["hold"] or hold is True or (isinstance(hold, list) and job["name"] in hold)
        if held != (job["state"] == "held"):
            self.save(job, "held" if held else "queued")
        if held or now < job["submitted_at"] + float(self.settings.get("queue_delay") or 0):
            return
        if job["nodes"] <= self.free:
            self.free -= job["nodes"]
            job["started_at"] = now
            self.save(job, "starting")

    def doom(self, job: Job, now: float) -> str | None:
        """The fault that is to end this running job now."""
        if "doom" not in job:
            for fault in filter(self.settings.get, DOOMS):
                details = core.take(self.folder, fault, job["name"])
                if details is not None:
                    job["doom"] = {"fault": fault, **details}
                    break
        due = job.get("doom")
        return due["fault"] if due and now >= job["started_at"] + due.get("after", 0.0) else None

    def launch(self, job: Job) -> None:
        """Starts a job's script in a session of its own."""
        module = flavour(job["kind"])
        module.started(self.folder, job)
        job["started_at"] = time.time()
        if core.take(self.folder, "launch_fail", job["name"]) is not None:
            job["reason"] = "launch_fail"
            self.ended(job, None)
            return
        streams = self.streams(job, module.files(self.folder, job))
        try:
            process = subprocess.Popen(
                module.command(job),
                cwd=module.workdir(self.folder, job),
                env={**module.environment(self.folder, job), processes.MARK: self.mark(job)},
                stdin=subprocess.DEVNULL,
                stdout=streams[0],
                stderr=streams[1],
                start_new_session=True,
            )
        except OSError as problem:
            streams[1].write(f"{problem}\n".encode())
            job["reason"] = "launch_fail"
            self.ended(job, None)
            return
        finally:
            for stream in set(streams):
                stream.close()
        self.running[job["number"]] = process
        job["pid"] = process.pid
        self.save(job, "running")
        core.event(self.folder, "started", job, pid=process.pid, nodes=job["nodes"])

    def streams(self, job: Job, paths: tuple[str, str]) -> tuple[IO[bytes], IO[bytes]]:
        """Opens the two output files, which may be one; what cannot be written goes nowhere, as on the real systems."""
        try:
            output = Path(paths[0]).open("ab")  # noqa: SIM115
            return output, output if paths[0] == paths[1] else Path(paths[1]).open("ab")
        except OSError:
            nowhere = Path(os.devnull).open("ab")  # noqa: SIM115
            return nowhere, nowhere

    def watch(self, job: Job, now: float) -> None:
        """Ends a running job whose time is over or whose fate is due; notices that it has ended."""
        process = self.running[job["number"]]
        if process.poll() is not None:
            self.ended(job, process.returncode)
            return
        if job["state"] == "killing":
            if now >= job["killed_at"] + self.settings["grace_s"]:
                processes.eradicate(self.mark(job), process.pid)
            return
        if now >= job["started_at"] + job["walltime_s"] * self.settings["time_scale"]:
            job["reason"] = "walltime"
            self.kill(job, "walltime")
        elif (fault := self.doom(job, now)) and not job.get("doomed"):
            job["doomed"] = True
            self.strike(job, fault, process)

    def strike(self, job: Job, fault: str, process: subprocess.Popen[bytes]) -> None:
        """Lets a fault hit a running job."""
        core.event(self.folder, "fault", job, fault=fault)
        module = flavour(job["kind"])
        if fault == "vanish":
            processes.eradicate(self.mark(job), process.pid)
            process.wait()
            core.event(self.folder, "ended", job, pid=process.pid, reason="vanish", exit_code=None)
            self.forget(job, remember=False)
        elif fault == "kill_signal":
            number = int(job["doom"].get("signal", signal.SIGKILL))
            processes.send(number, processes.members(self.mark(job), process.pid))
        else:
            job["reason"] = fault
            module.word(job, fault)
            # Where the script runs on a service node, it outlives the node or the rank that died.
            processes.eradicate(self.mark(job), process.pid, spare_leader=module.SCRIPT_SURVIVES)

    def kill(self, job: Job, why: str) -> None:
        """SIGTERM now, SIGKILL after the grace."""
        job["killed_at"] = time.time()
        flavour(job["kind"]).word(job, why)
        self.save(job, "killing")
        core.event(self.folder, "killing", job, reason=why)
        processes.terminate(self.running[job["number"]].pid)

    def ended(self, job: Job, code: int | None) -> None:
        """The script has ended (or never ran: None): nothing of the job stays behind; the verdict is written."""
        process = self.running.pop(job["number"], None)
        processes.eradicate(self.mark(job), process.pid if process else None)
        job["ended_at"] = time.time()
        job["exit_code"] = None if code is None or code < 0 else code
        job["signal"] = -code if code is not None and code < 0 else None
        flavour(job["kind"]).ended(self.folder, job)
        pid = process.pid if process else None
        core.event(self.folder, "ended", job, pid=pid, reason=job.get("reason"), exit_code=code)
        if job.get("reason") == "node_fail" and self.settings["requeue"] and job["kind"] != "cobalt":
            for key in ("reason", "doom", "doomed", "pid", "started_at", "ended_at", "exit_code", "signal"):
                job.pop(key, None)
            self.save(job, "queued")
        else:
            self.save(job, "exiting")

    def forget(self, job: Job, remember: bool) -> None:
        """A job leaves the queue, for the history or for good."""
        if remember:
            core.write_json(self.folder / "done" / f"{job['number']}.json", {**job, "state": "finished"})
        (self.folder / "jobs" / f"{job['number']}.json").unlink()
        del self.jobs[job["number"]]
        self.running.pop(job["number"], None)

    def idle(self) -> bool:
        """Whether no job is left, asked under the submission lock."""
        return not self.jobs and not any((self.folder / "jobs").glob("[0-9]*.json"))


def main() -> None:
    """Serves until no job is left. The lock on `server.lock` came with the process (core.start_server)."""
    folder = core.home()
    core.write_json(folder / "server.json", {"pid": os.getpid()})
    server = Server(folder)
    while True:
        server.step()
        if server.idle():
            with core.locked(folder, "submit"):
                if server.idle():
                    os.close(3)  # frees the lock while no one can submit: the next submission starts a server
                    return
        time.sleep(STEP_S)
