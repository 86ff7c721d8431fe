"""Slurm's sbatch, squeue, scontrol show job and scancel."""

import os
import re
import time
from pathlib import Path

from tests.emulators import core
from tests.emulators.core import Job, RefusedError

SCRIPT_SURVIVES = False
STATES = {
    "queued": "PENDING",
    "held": "PENDING",
    "starting": "CONFIGURING",
    "running": "RUNNING",
    "killing": "COMPLETING",
    "exiting": "COMPLETING",
}
COMPACT = {"PENDING": "PD", "CONFIGURING": "CF", "RUNNING": "R", "COMPLETING": "CG"}
WITH_VALUE = (
    "J job-name N nodes n ntasks t time p partition A account o output e error D chdir export ntasks-per-node c "
    "cpus-per-task mem q qos C constraint G gpus gres signal open-mode comment begin d dependency mail-type M clusters"
)
FLAGS = "parsable H hold exclusive requeue no-requeue Q quiet"
LONG = {
    "J": "job-name", "N": "nodes", "t": "time", "p": "partition", "A": "account", "o": "output", "e": "error",
    "D": "chdir", "H": "hold", "M": "clusters",
}  # fmt: skip
DOWN = "slurm_load_jobs error: Unable to contact slurm controller (connect failure)"


def parse(words: list[str], source: str = "sbatch") -> tuple[dict[str, str], list[str]]:
    """sbatch's options under their long names."""
    try:
        found, rest = core.options(words, WITH_VALUE, FLAGS)
    except RefusedError as problem:
        raise RefusedError(f'{source}: {problem}\nTry "sbatch --help" for more information', 1) from None
    return {LONG.get(name, name): value.split("\n")[-1] for name, value in found.items()}, rest


def directives(script: Path) -> list[str]:
    """The words of the `#SBATCH` lines, up to the first line that is neither a comment nor empty."""
    words: list[str] = []
    with script.open() as file:
        if not file.readline().startswith("#!"):
            raise RefusedError("sbatch: error: This does not look like a batch script.", 1)
        for line in file:
            if line.startswith("#SBATCH"):
                words += line[7:].split("#")[0].replace('"', "").split()
            elif line.strip() and not line.startswith("#"):
                break
    return words


def minutes(text: str) -> int:
    """Slurm's time in seconds: minutes, MM:SS, HH:MM:SS, D-HH, D-HH:MM, D-HH:MM:SS."""
    days, dash, rest = text.rpartition("-")
    parts = [int(part) for part in rest.split(":")]
    if dash:
        return 86400 * int(days) + sum(part * unit for part, unit in zip(parts, (3600, 60, 1), strict=False))
    return 60 * parts[0] if len(parts) == 1 else core.seconds(rest)


def sbatch(words: list[str]) -> int:
    """Submits a copy of a script."""
    folder = core.home()
    found, operands = parse(words)
    if not operands:
        raise RefusedError("sbatch: error: this emulator reads no script from standard input", 1)
    script = Path.cwd() / operands[0]
    if not script.is_file():
        raise RefusedError(f"sbatch: error: Unable to open file {operands[0]}", 1)
    asked = parse(directives(script), "sbatch: error")[0] | found
    begin = "sbatch: error: Batch job submission failed: "
    try:
        walltime = minutes(asked.get("time", "30"))
    except ValueError:
        raise RefusedError(f"sbatch: error: Invalid --time specification: {asked['time']}", 1) from None
    cwd = asked.get("chdir", str(Path.cwd()))
    output = asked.get("output", "slurm-%j.out")
    job: Job = {
        "kind": "slurm", "id_format": "{}", "name": asked.get("job-name", script.name), "script": str(script),
        "copy": True, "cwd": cwd, "nodes": int(asked.get("nodes", "1").split("-")[0]), "walltime_s": walltime,
        "queue": asked.get("partition", "default"), "account": asked.get("account", ""), "hold": "hold" in asked,
        "output": str(Path(cwd) / output), "error": str(Path(cwd) / asked.get("error", output)),
        "arguments": operands[1:], "cluster": asked.get("clusters", core.settings(folder)["cluster"]),
        "variables": {k: v for k, v in os.environ.items() if not k.startswith("SLURM_") or k == "SLURM_CONF"},
    }  # fmt: skip
    if core.is_down(folder, "sbatch"):
        raise RefusedError(f"{begin}Unable to contact slurm controller (connect failure)", 1)
    refuse = core.settings(folder).get("refuse")
    if refuse:
        raise RefusedError(f"{begin}{refuse}", 1)
    core.check_request(
        folder,
        job,
        "sbatch: error: invalid partition specified: " + job["queue"] + f"\n{begin}Invalid partition name specified",
        f"{begin}Requested time limit is invalid (missing or exceeds some limit)",
        f"{begin}Invalid account or account/partition combination specified",
    )
    if "clusters" in asked and job["cluster"] not in clusters(folder):
        raise RefusedError(f"sbatch: error: No cluster '{job['cluster']}' known by database.", 1)

    def too_many(limit: int, waiting_only: bool) -> RefusedError:
        policy = "Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)"
        return RefusedError(f"sbatch: error: QOSMaxSubmitJobPerUserLimit\n{begin}{policy}", 1)

    job = core.submit(folder, job, RefusedError(f"{begin}Socket timed out on send/recv operation", 1), too_many)
    short, long = (f";{job['cluster']}", f" on cluster {job['cluster']}") if "clusters" in asked else ("", "")
    core.say(job["id"] + short if "parsable" in asked else f"Submitted batch job {job['id']}{long}")
    return 0


def clusters(folder: Path) -> list[str]:
    """All that are known, the own one first."""
    chosen = core.settings(folder)
    return [chosen["cluster"], *chosen["clusters"]]


def of_clusters(folder: Path, found: dict[str, str], jobs: list[Job]) -> list[tuple[str, list[Job]]]:
    """Jobs by the cluster asked for (-M), else those of the own one without its name."""
    asked = found.get("M", found.get("clusters"))
    chosen = asked.split(",") if asked else clusters(folder)[:1]
    if asked == "all":
        chosen = clusters(folder)
    own = clusters(folder)[0]
    return [(name if asked else "", [job for job in jobs if job.get("cluster", own) == name]) for name in chosen]


def expand(pattern: str, job: Job) -> str:
    """A file's name by the patterns in sbatch(1): %% %A %a %b %J %j %N %n %s %t %u %x, numbers with a width as in %5j.

    What is no pattern stays. A backslash anywhere turns this off.
    """
    if "\\" in pattern:
        return pattern.replace("\\", "")
    number, unset = job["number"], 4294967294  # of a job that is no array
    numbers = {"A": number, "a": unset, "b": unset % 10, "j": number, "n": 0, "t": 0}
    texts = {"J": str(number), "N": "node1", "s": "batch", "u": job["user"], "x": job["name"], "%": "%"}

    def value(match: re.Match[str]) -> str:
        width, letter = match.groups()
        if letter in numbers:
            return str(numbers[letter]).zfill(min(int(width or 0), 10))
        return texts.get(letter, match[0])

    return re.sub(r"%(\d*)([A-Za-z%])", value, pattern)


def state(job: Job) -> str:
    """A job's state by its long name."""
    if job["state"] != "finished" and not (job["state"] == "exiting" and not job.get("pid")):
        return STATES[job["state"]]
    named = {"walltime": "TIMEOUT", "node_fail": "NODE_FAIL", "oom": "OUT_OF_MEMORY", "deleted": "CANCELLED"}
    if job.get("reason") in named:
        return named[job["reason"]]
    return "COMPLETED" if job["exit_code"] == 0 else "FAILED"


def exit_code(job: Job) -> str:
    """ExitCode=N:S, the script's exit code and signal."""
    if job.get("reason") == "oom":
        return "0:125"
    if job.get("reason") == "launch_fail":
        return "0:53"
    return f"{job.get('exit_code') or 0}:{job.get('signal') or 0}"


def reason(job: Job) -> str:
    """Why it waits or ended."""
    if job["state"] in ("queued", "held"):
        return "JobHeldUser" if job["state"] == "held" else "Resources"
    ends = {
        "walltime": "TimeLimit",
        "node_fail": "NodeDown",
        "oom": "OutOfMemory",
        "launch_fail": "RaisedSignal:53(Real-time_signal_19)",
    }
    if job.get("reason") in ends:
        return ends[job["reason"]]
    return "NonZeroExitCode" if job.get("exit_code") else "None"


def when(moment: float | None, none: str = "N/A") -> str:
    """A time as Slurm writes it."""
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(moment)) if moment else none


def squeue(words: list[str]) -> int:
    """Live jobs, one a line, in the format of -o."""
    folder = core.home()
    try:
        found, _ = core.options(words, "o format j jobs u user n name t states M clusters", "me h noheader a all")
    except RefusedError as problem:
        raise RefusedError(f"squeue: {problem}", 1) from None
    if core.is_down(folder, "squeue"):
        raise RefusedError(DOWN, 1)
    jobs = core.visible(folder, core.live_jobs(folder)) + core.strangers(folder)
    owner = core.user() if "me" in found else found.get("u", found.get("user"))
    jobs = [job for job in jobs if owner in (None, job["user"])]
    chosen = found.get("j", found.get("jobs"))
    if chosen:
        numbers = chosen.split(",")
        jobs = [job for job in jobs if str(job["number"]) in numbers]
        if len(numbers) == 1 and not jobs and core.find(folder, numbers[0]) is None:
            raise RefusedError("slurm_load_jobs error: Invalid job id specified", 1)
    names = found.get("n", found.get("name"))
    jobs = [job for job in jobs if names is None or job["name"] in names.split(",")]
    template = found.get("o", found.get("format", "%.18i %.9P %.8j %.8u %.2t %.10M %.6D %R"))
    for cluster, members in of_clusters(folder, found, jobs):
        if cluster:
            core.say(f"CLUSTER: {cluster}")
        if "h" not in found and "noheader" not in found:
            core.say(fill(template, HEADER))
        for job in members:
            core.say(fill(template, fields(job)))
    return 0


HEADER = {
    "i": "JOBID", "A": "JOBID", "P": "PARTITION", "j": "NAME", "u": "USER", "t": "ST", "T": "STATE", "M": "TIME",
    "D": "NODES", "R": "NODELIST(REASON)", "r": "REASON", "S": "START_TIME", "l": "TIME_LIMIT", "a": "ACCOUNT",
    "o": "COMMAND", "Z": "WORK_DIR", "V": "SUBMIT_TIME", "N": "NODELIST",
}  # fmt: skip


def fields(job: Job) -> dict[str, str]:
    """A job's values by squeue's letters."""
    start, named = job.get("started_at"), state(job)
    hosts = f"node[1-{job['nodes']}]" if start else ""
    return {
        "i": job["id"], "A": job["id"], "P": job["queue"], "j": job["name"], "u": job["user"], "T": named,
        "t": COMPACT.get(named, named[:2]), "M": core.clock(time.time() - start) if start else "0:00",
        "D": str(job["nodes"]), "R": hosts or f"({reason(job)})", "r": reason(job), "S": when(start), "N": hosts,
        "l": core.clock(job["walltime_s"]), "a": job["account"], "o": job["script"], "Z": job["cwd"],
        "V": when(job["submitted_at"]),
    }  # fmt: skip


def fill(template: str, values: dict[str, str]) -> str:
    """A format of squeue: %i, %.8i (right, cut), %8i (left, cut)."""
    text, rest = "", template
    while rest:
        head, percent, rest = rest.partition("%")
        text += head
        if not percent:
            break
        right = rest.startswith(".")
        rest = rest.removeprefix(".")
        digits = len(rest) - len(rest.lstrip("0123456789"))
        width, letter, rest = rest[:digits], rest[digits : digits + 1], rest[digits + 1 :]
        value = values.get(letter, f"%{letter}")
        if width:
            value = f"{value[: int(width)]:{'>' if right else '<'}{int(width)}}"
        text += value
    return text


def scontrol(words: list[str]) -> int:
    """`scontrol show job ID`: live jobs and, for a while, ended ones."""
    folder = core.home()
    found_, rest = core.options(words, "M clusters", "o oneliner d details")
    if rest[:2] != ["show", "job"]:
        raise RefusedError(f"invalid keyword: {' '.join(rest)}", 1)
    if core.is_down(folder, "scontrol"):
        raise RefusedError(DOWN, 1)
    found = [core.find(folder, word) for word in rest[2:]] or list(core.live_jobs(folder))
    there = [job["number"] for _, jobs in of_clusters(folder, found_, [job for job in found if job]) for job in jobs]
    for job in found:
        if job is None or job["number"] not in there:
            raise RefusedError("slurm_load_jobs error: Invalid job id specified", 1)
        start = job.get("started_at")
        lines = [
            f"JobId={job['id']} JobName={job['name']}",
            f"   UserId={job['user']}({os.getuid()}) GroupId={job['user']}({os.getgid()}) MCS_label=N/A",
            f"   Priority=1 Nice=0 Account={job['account'] or '(null)'} QOS=(null)",
            f"   JobState={state(job)} Reason={reason(job)} Dependency=(null)",
            f"   Requeue=1 Restarts=0 BatchFlag=1 Reboot=0 ExitCode={exit_code(job)}",
            f"   RunTime={core.clock(job.get('ended_at', time.time()) - start) if start else '00:00:00'} "
            f"TimeLimit={core.clock(job['walltime_s'])} TimeMin=N/A",
            f"   SubmitTime={when(job['submitted_at'])} EligibleTime={when(job['submitted_at'])}",
            f"   StartTime={when(start, 'Unknown')} EndTime={when(job.get('ended_at'), 'Unknown')}",
            f"   Partition={job['queue']} NumNodes={job['nodes']}",
            f"   Command={job['script']}",
            f"   WorkDir={job['cwd']}",
            f"   StdErr={expand(job['error'], job)}",
            "   StdIn=/dev/null",
            f"   StdOut={expand(job['output'], job)}",
        ]
        core.say("\n".join(lines) + "\n")
    return 0


def scancel(words: list[str]) -> int:
    """Ends jobs by number or by name."""
    folder = core.home()
    found, wanted = core.options(words, "n name u user M clusters", "me Q quiet")
    if core.is_down(folder, "scancel"):
        raise RefusedError("scancel: error: Unable to contact slurm controller (connect failure)", 1)
    own = [job for job in core.live_jobs(folder) if job["user"] == core.user()]
    live = [job for _, jobs in of_clusters(folder, found, own) for job in jobs]
    name = found.get("n", found.get("name"))
    known = {str(job["number"]): job for job in live}
    chosen = [job for job in live if name is not None and job["name"] == name]
    code = 0
    for word in wanted:
        if word in known:
            chosen.append(known[word])
        elif core.find(folder, word) is None or any(str(job["number"]) == word for job in own):
            os.write(2, f"scancel: error: Kill job error on job id {word}: Invalid job id specified\n".encode())
            code = 1
    if "me" in found or "u" in found or "user" in found:
        chosen = live
    for job in chosen:
        core.request_deletion(folder, job)
    return code


def environment(folder: Path, job: Job) -> dict[str, str]:
    """The submitting shell's environment and Slurm's variables."""
    return {
        **job["variables"], "EMULATOR_HOME": str(folder), "SLURM_JOB_ID": job["id"], "SLURM_JOBID": job["id"],
        "SLURM_JOB_NAME": job["name"], "SLURM_JOB_NUM_NODES": str(job["nodes"]), "SLURM_NNODES": str(job["nodes"]),
        "SLURM_SUBMIT_DIR": job["cwd"], "SLURM_JOB_PARTITION": job["queue"],
        "SLURM_JOB_NODELIST": f"node[1-{job['nodes']}]",
    }  # fmt: skip


def command(job: Job) -> list[str]:
    """What is run: the copy made at submission."""
    return [job["run"], *job["arguments"]]


def workdir(folder: Path, job: Job) -> str:
    """Where it runs: where sbatch was called, or --chdir."""
    return str(job["cwd"])


def files(folder: Path, job: Job) -> tuple[str, str]:
    """Standard output and error, written while the job runs."""
    return expand(job["output"], job), expand(job["error"], job)


def started(folder: Path, job: Job) -> None:
    """Nothing is written at a job's start."""


def word(job: Job, why: str) -> None:
    """What standard error says when something ends a running job."""
    if not job.get("pid"):
        return
    moment = when(time.time())
    texts = {
        "walltime": f"slurmstepd: error: *** JOB {job['id']} ON node1 CANCELLED AT {moment} DUE TO TIME LIMIT ***",
        "deleted": f"slurmstepd: error: *** JOB {job['id']} ON node1 CANCELLED AT {moment} ***",
        "oom": f"slurmstepd: error: Detected 1 oom_kill event in StepId={job['id']}.batch.",
        "node_fail": f"slurmstepd: error: *** JOB {job['id']} ON node1 CANCELLED AT {moment} DUE TO NODE FAILURE ***",
    }
    with Path(expand(job["error"], job)).open("a") as file:
        file.write(texts[why] + "\n")


def ended(folder: Path, job: Job) -> None:
    """Nothing is written at a job's end."""
