"""Cobalt's qsub, qstat and qdel, as on Theta."""

import os
import time
from pathlib import Path

from tests.emulators import core
from tests.emulators.core import Job, RefusedError

DOWN = RefusedError("component error: Failed to connect to queue-manager", 1)
SCRIPT_SURVIVES = True  # it runs on a service node
COLUMNS = ["JobID", "User", "WallTime", "Nodes", "State", "Location"]
STATES = {"held": "user_hold"}
USAGE = "Usage: qsub.py [options] <executable> [<executable options>]\n\n"
WITH_VALUE = (
    "n nodecount proccount A project cwd q queue M notify env t time u umask O outputprefix e error o output "
    "i inputfile debuglog dependencies attrs user_list run_users jobname mode"
)
LONG = {
    "n": "nodecount", "A": "project", "q": "queue", "t": "time", "O": "outputprefix", "e": "error", "o": "output",
    "h": "held", "i": "inputfile", "M": "notify", "u": "umask",
}  # fmt: skip
FAULT = "component error: XMLRPC failure <Fault {}: {!r}> in {}\n"  # what a component raises (src/lib/client_utils.py)
NODE = "[NID 00012] {stamp} Apid 1: "


def directives(script: Path) -> list[str]:
    """The words of the `#COBALT` lines: they count only directly after the first line."""
    with script.open() as file:
        lines = iter(file)
        words: list[str] = []
        if next(lines, "").startswith("#!"):
            for line in lines:
                if not line.startswith("#COBALT "):
                    break
                words += line.split()[1:]
    return words


def qsub(words: list[str]) -> int:
    """Submits an executable script."""
    folder = core.home()
    _, operands = core.options(words, WITH_VALUE, "d debug v verbose h held preemptable run_project disable_preboot")
    if not operands:
        raise RefusedError(USAGE + "No executable or script specified", 1)
    script = Path.cwd() / operands[0]
    if not script.is_file():
        raise RefusedError(f"command {script} not found, or is not a file", 1)
    if not os.access(script, os.X_OK | os.R_OK):
        raise RefusedError(f"command {script} is not executable", 1)
    # The command line comes last and wins.
    found, operands = core.options([*directives(script), *words], WITH_VALUE, "d debug v verbose h held")
    asked = {LONG.get(name, name): value.split("\n")[-1] for name, value in found.items()}
    if not found:
        raise RefusedError(USAGE + "No required options provided", 1)
    for need in ("time", "nodecount"):
        if need not in asked:
            raise RefusedError(f"'{need}' not provided", 1)
    job = request(asked, script, operands[1:], found.get("env", ""))
    if core.is_down(folder, "qsub"):
        raise DOWN
    queue, manager = job["queue"], "queue-manager.add_jobs"
    known = core.settings(folder)["queues"].get(queue)
    size = min(known["max_nodes"], core.settings(folder)["nodes"]) if known else 0
    too_much = FAULT.format(1004, f"Job requested {job['nodes']} nodes.  Maximum permitted size is {size}", manager)
    if known and job["walltime_s"] > known["max_walltime_s"]:
        longest = core.clock(known["max_walltime_s"])
        too_much = FAULT.format(1001, f"Walltime greater than the '{queue}' queue max walltime of {longest}\n", manager)
    core.check_request(
        folder,
        job,
        FAULT.format(1001, f"Queue '{queue}' does not exist", manager),
        too_much,
        f"Project '{job['account']}' is not valid",
    )

    def too_many(limit: int, waiting_only: bool) -> RefusedError:
        words = f"The limit of {limit} jobs per user in the '{queue}' queue has been reached\n"
        return RefusedError(FAULT.format(1001, words, manager), 1)

    lost = RefusedError(f"component error: XMLRPC failure timed out in {manager}\n", 1)
    job = core.submit(folder, job, lost, too_many)
    log(
        job,
        f"Jobid: {job['number']}\nqsub {' '.join(words)}\n{stamp()} submitted with cwd set to: {job['cwd']}\n"
        f"jobid {job['number']} submitted from terminal None\n",
        dated=False,
    )
    notice = core.settings(folder)["notice"]
    if notice:
        core.say(notice)
    core.say(str(job["number"]))
    return 0


def request(asked: dict[str, str], script: Path, arguments: list[str], variables: str) -> Job:
    """A job from options; times in minutes or HH:MM:SS."""
    try:
        walltime = core.seconds(asked["time"]) if ":" in asked["time"] else 60 * int(asked["time"])
    except ValueError:
        raise RefusedError(f"invalid time specification: {asked['time']}", 1) from None
    if not asked["nodecount"].isdigit() or asked["nodecount"] == "0":
        raise RefusedError(f"non-positive or non-integer node count: {asked['nodecount']}", 1)
    cwd = Path.cwd() / asked.get("cwd", "")
    prefix = str(cwd / asked.get("outputprefix", "$jobid"))
    if not Path(prefix).parent.is_dir():
        raise RefusedError(f"directory {prefix} does not exist", 1)
    pairs = [pair.partition("=")[::2] for text in variables.split("\n") if text for pair in text.split(":")]
    return {
        "kind": "cobalt", "id_format": "{}", "name": asked.get("jobname", "N/A"), "script": str(script),
        "run": str(script),
        "arguments": arguments, "cwd": str(cwd), "nodes": int(asked["nodecount"]), "walltime_s": walltime,
        "queue": asked.get("queue", "default"), "account": asked.get("project", ""), "hold": "held" in asked,
        "output": str(cwd / asked["output"]) if "output" in asked else f"{prefix}.output",
        "error": str(cwd / asked["error"]) if "error" in asked else f"{prefix}.error",
        "log": str(cwd / asked["debuglog"]) if "debuglog" in asked else f"{prefix}.cobaltlog",
        "attrs": asked.get("attrs", ""), "variables": dict(pairs), "path": os.environ.get("PATH", ""),
    }  # fmt: skip


def qstat(words: list[str]) -> int:
    """A table of live jobs. Exit code 1 and no word where none of the jobs asked for is live."""
    folder = core.home()
    found, wanted = core.options(words, "header u user sort", "f full l long Q reverse d debug")
    if core.is_down(folder, "qstat"):
        raise DOWN
    owner = found.get("u", found.get("user"))
    queues = core.settings(folder)["queues"]
    for word in wanted:
        if not word.isdigit() and word not in queues:
            raise RefusedError(f"{word} is not a valid jobid or queue name", 1)
    jobs = core.visible(folder, core.live_jobs(folder)) + core.strangers(folder)
    jobs = [job for job in jobs if owner in (None, job["user"])]
    if wanted:
        jobs = [job for job in jobs if str(job["number"]) in wanted or job["queue"] in wanted]
        if not jobs:
            return 1
    header = found["header"].split(":") if "header" in found else list(COLUMNS)
    rows = [header, *([cell(job, name.lower()) for name in header] for job in jobs)]
    if not jobs and not core.settings(folder)["empty_table"]:
        return 0
    if "l" in found or "long" in found:
        width = max(len(name) for name in header) + 1
        for row in rows[1:]:
            for name, value in zip(header, row, strict=True):
                core.say(f"{name}: {value}" if name == header[0] else f"    {name:<{width}}: {value}")
            core.say("")
    else:
        table(rows)
    return 0


def cell(job: Job, name: str) -> str:
    """A job's entry in a column, by its name in lower case."""
    start = job.get("started_at")
    values = {
        "jobid": job["number"], "jobname": job["name"], "user": job["user"], "queue": job["queue"],
        "nodes": job["nodes"], "walltime": core.clock(job["walltime_s"]), "location": "None",
        "state": STATES.get(job["state"], job["state"]),
        "queuedtime": core.clock((start or time.time()) - job["submitted_at"]), "project": job["account"],
        "runtime": core.clock(time.time() - start) if start else "N/A", "outputpath": job.get("output", "-"),
        "starttime": time.ctime(start) if start else "N/A", "command": job["script"],
    }  # fmt: skip
    if name == "location" and start:
        return f"[0-{job['nodes'] - 1}]"
    return str(values.get(name, "-"))


def table(rows: list[list[str]]) -> None:
    """Columns of equal width, a double line below the first row."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["".join(f"{text:<{width}}  " for text, width in zip(row, widths, strict=True)) for row in rows]
    core.say("\n".join([lines[0], "=" * sum(width + 2 for width in widths), *lines[1:]]))


def qdel(words: list[str]) -> int:
    """Deletes jobs by number."""
    folder = core.home()
    _, wanted = core.options(words, "", "f d debug force")
    if not wanted:
        raise RefusedError("Usage: qdel.py [options] <jobid1> [<jobid2> ...]\n\nNo Jobid given\n", 1)
    for word in wanted:
        if not word.isdigit():
            raise RefusedError(f"jobid must be an integer, found '{word}'", 1)
    if core.is_down(folder, "qdel"):
        raise DOWN
    live = {str(job["number"]): job for job in core.live_jobs(folder) if job["user"] == core.user()}
    rows = [["JobID", "User"]]
    for word in wanted:
        if word in live:
            core.request_deletion(folder, live[word])
            rows.append([word, live[word]["user"]])
        else:
            core.say(f"qdel: Job {word} not found")
    if len(rows) > 1:
        core.say("      Deleted Jobs")
        table(rows)
    return 0


def stamp() -> str:
    """A time as Cobalt's log has it."""
    return time.strftime("%a %b %d %H:%M:%S %Y +0000 (UTC)", time.gmtime())


def log(job: Job, text: str, dated: bool = True) -> None:
    """A line in the job's .cobaltlog; nothing where it cannot be written."""
    try:
        with Path(job["log"]).open("a") as file:
            file.write(f"{stamp()} {text}\n" if dated else f"{text}\n")
    except OSError as problem:
        os.write(2, f"WARNING: failed to create cobalt log file at: {job['log']}: {problem}\n".encode())


def environment(folder: Path, job: Job) -> dict[str, str]:
    """A login environment with Cobalt's variables: only PATH comes from the submitting shell."""
    return {
        "HOME": os.environ.get("HOME", "/"), "USER": job["user"], "LOGNAME": job["user"], "SHELL": "/bin/bash",
        "PATH": job["path"], "EMULATOR_HOME": str(folder), "COBALT_JOBID": str(job["number"]),
        "COBALT_PARTNAME": ",".join(map(str, range(job["nodes"]))), "COBALT_PARTSIZE": str(job["nodes"]),
        "COBALT_JOBSIZE": str(job["nodes"]), "COBALT_PROJECT": job["account"], "COBALT_QUEUE": job["queue"],
        **job["variables"],
    }  # fmt: skip


def command(job: Job) -> list[str]:
    """What is run: the file itself, as it is when the job starts."""
    return [job["run"], *job["arguments"]]


def workdir(folder: Path, job: Job) -> str:
    """Where it runs."""
    return str(job["cwd"])


def files(folder: Path, job: Job) -> tuple[str, str]:
    """Standard output and error, written while the job runs."""
    return job["output"], job["error"]


def started(folder: Path, job: Job) -> None:
    """The log's lines at a job's start."""
    log(job, f"Command: {job['run']}")
    log(job, "Info: stdin received from /dev/null")
    log(job, f"Info: stdout sent to {job['output']}")
    log(job, f"Info: stderr sent to {job['error']}")


def word(job: Job, why: str) -> None:
    """What the log and the error file say when something ends a job."""
    if why == "walltime":  # the real text has this letter too many
        log(job, "Info: maximum execution time exceeded; initiating job terminiation")
    elif why == "deleted" and job.get("pid"):
        log(job, f"Info: user delete requested with signal SIGTERM by user {job['deleted_by']}")
    elif why == "deleted":
        log(job, "Info: user delete requested; removing job from the queue")
    else:
        node_event = "killed. Received node event ec_node_failed for nid 12"
        text = "OOM killer terminated this process." if why == "oom" else node_event
        with Path(job["error"]).open("a") as file:
            file.write(NODE.format(stamp=time.strftime("%Y-%m-%d %H:%M:%S")) + text + "\n")


def ended(folder: Path, job: Job) -> None:
    """The log's verdict. None of a task that Cobalt has killed, whatever its exit code: nothing is written after the
    line that says why (src/lib/Components/cqm.py, _sm_killing__task_end)."""
    if job.get("reason") == "launch_fail":
        log(job, "ERROR: execution failure; initiating job cleanup and removal")
    elif job.get("reason") not in ("deleted", "walltime"):
        code = job["exit_code"] if job["signal"] is None else 128 + job["signal"]
        text = f"task completed normally with an exit code of {code}; initiating job cleanup and removal"
        log(job, f"Info: {text}")
