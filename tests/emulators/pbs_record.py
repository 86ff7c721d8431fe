"""What PBS keeps of a job and `qstat -f` shows."""

import re
import socket
import time
from pathlib import Path
from typing import Any

from tests.emulators import core
from tests.emulators.core import Job

SERVER = "emulated"
LETTERS = {
    "queued": "Q",
    "held": "H",
    "starting": "R",
    "running": "R",
    "killing": "E",
    "exiting": "E",
    "finished": "F",
}


def place(job: Job, asked: str, letter: str) -> str:
    """Where an output file goes at last: -o or -e (a file or a folder, perhaps with a host), or NAME.o123."""
    default = f"{job['name']}.{letter}{job['number']}"
    path = Path(job["cwd"]) / (re.sub(r"^[\w.-]+:", "", asked) or default)
    if path.is_dir() or asked.endswith("/"):
        folder_name = {"o": "OU", "e": "ER"}[letter]
        path = path / f"{job['id']}.{folder_name}"
    return str(path)


def attributes(job: Job) -> dict[str, Any]:
    """A job as `qstat -f` has it. Numbers are numbers; times are as in ctime()."""
    state = LETTERS[job["state"]]
    host = socket.gethostname()
    select = job.get("resources", {}).get("select", "1")
    found: dict[str, Any] = {"Job_Name": job["name"], "Job_Owner": f"{job['user']}@{host}"}
    start = job.get("started_at")
    if start:
        used = core.clock(job.get("ended_at", time.time()) - start)
        found["resources_used"] = {"cpupercent": 0, "cput": "00:00:00", "mem": "0kb", "ncpus": 1, "walltime": used}
    found |= {"job_state": state, "queue": job["queue"], "server": SERVER, "Checkpoint": "u"}
    found["ctime"] = found["qtime"] = time.ctime(job["submitted_at"])
    found["Error_Path"] = f"{host}:{place(job, job.get('error_asked', ''), 'e')}"
    found |= {"Hold_Types": "u" if state == "H" else "n", "Join_Path": job.get("join", "n")}
    found |= {"Keep_Files": job.get("keep", "n"), "Mail_Points": "a", "mtime": time.ctime(start or job["submitted_at"])}
    found["Output_Path"] = f"{host}:{place(job, job.get('output_asked', ''), 'o')}"
    found |= {"Priority": 0, "Rerunable": str(job.get("rerunnable", True))}
    found["Resource_List"] = {
        **job.get("resources", {}), "nodect": job["nodes"], "select": select, "walltime": core.clock(job["walltime_s"]),
    }  # fmt: skip
    if start:
        hosts = nodes(job)
        found |= {"stime": time.ctime(start), "session_id": job.get("pid", 0), "run_count": 1}
        found["exec_host"] = "+".join(f"{host}/0" for host in hosts)
        found["exec_vnode"] = "+".join(f"({host}:ncpus=1)" for host in hosts)
    found["substate"] = {"Q": 10, "H": 20, "R": 42, "E": 51, "F": 92}[state]
    found["Variable_List"] = {key: text for key, text in job.get("variables", {}).items() if key.startswith("PBS_O_")}
    comment, exit_status = verdict(job)
    if comment:
        found["comment"] = comment
    if exit_status is not None and state == "F":
        found["Exit_status"] = exit_status
    if state == "F" and job.get("reason") == "deleted":
        found["substate"] = 91
    found |= {"Submit_arguments": job.get("submit_arguments", ""), "project": "_pbs_project_default"}
    found["Submit_Host"] = host
    if job["account"]:
        found["Account_Name"] = job["account"]
    return found


def verdict(job: Job) -> tuple[str, int | None]:
    """The comment and, of a job that has ended, Exit_status: 256 + N after signal N, below 0 where it could not run."""
    begin = f"Job run at {time.strftime('%a %b %d at %H:%M', time.localtime(job.get('started_at', 0)))}"
    begin += f" on {'+'.join(f'({host}:ncpus=1)' for host in nodes(job))}"
    if job["state"] == "queued":
        return "Not Running: Insufficient amount of resource: ncpus", None
    if job["state"] == "held":
        return "Job held by user", None
    if job["state"] != "finished":
        return begin, None
    if job.get("reason") == "launch_fail":
        return begin + " and failed", -1
    if job.get("reason") == "node_fail":
        return begin + " and failed: node down", -4  # the job was aborted when its first node came up again
    if not job.get("pid"):
        return "Not Running: job was deleted", None
    status = job["exit_code"] if job["signal"] is None else 256 + job["signal"]
    if job.get("reason") == "walltime" and job.get("walltime_status") is not None:
        return begin + " and exceeded resource walltime", int(job["walltime_status"])
    if job.get("reason") == "deleted":
        return f"{begin} and terminated by {job['deleted_by']}", int(status)
    return begin + (" and finished" if status == 0 else " and failed"), int(status)


def nodes(job: Job) -> list[str]:
    """Made-up names of the job's nodes."""
    return [f"x3001c0s{i}b0n0" for i in range(job["nodes"])]
