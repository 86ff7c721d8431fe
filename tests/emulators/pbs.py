"""PBS Pro's qsub, qselect, qstat and qdel, as on Polaris. Exit codes of the commands are PBS's errors modulo 256."""

import json
import os
import re
import socket
import sys
import time
from pathlib import Path
from typing import Any

from tests.emulators import core
from tests.emulators.core import Job, RefusedError
from tests.emulators.foreign import among
from tests.emulators.pbs_record import LETTERS, SERVER, attributes, nodes, place

SCRIPT_SURVIVES = False  # it runs on the job's first node
WITH_VALUE = "a A c C e h_ I_ j J k l M m N o p P q r R S u v W"
FLAGS = "h I V X z f G"
KILLED = {
    "walltime": "=>> PBS: job killed: walltime {used} exceeded limit {limit}\n",
    "oom": "Cgroup mem limit exceeded: oom-kill:constraint=CONSTRAINT_MEMCG\n",
}
HELP = "usage: qsub [-A account_string] [-l resource_list] [-N name] ... [script | -- command [arguments]]"


def down(command: str) -> RefusedError:
    """No server can be reached."""
    return RefusedError(f"Connection refused\n{command}: cannot connect to server {SERVER} (errno=111)", 111)


def parse(words: list[str]) -> tuple[dict[str, str], list[str]]:
    """qsub's options; errors as qsub words them."""
    try:
        return core.options(words, WITH_VALUE, FLAGS)
    except RefusedError as problem:
        name = str(problem).split("'")[1] if "'" in str(problem) else "-"
        raise RefusedError(f"qsub: invalid option -- '{name.lstrip('-')[:1]}'\n{HELP}", 2) from None


def directives(script: Path) -> list[list[str]]:
    """The words of each `#PBS` line, up to the first line that is neither a comment nor empty."""
    lines: list[list[str]] = []
    with script.open() as file:
        for i, line in enumerate(file):
            if line.startswith("#PBS"):
                lines.append(line[4:].split("#")[0].replace('"', "").split())
            elif line.strip() and not line.startswith(("#", ":")) and i > 0:
                break
    return lines


def qsub(words: list[str]) -> int:
    """Submits a copy of a script."""
    folder = core.home()
    found, operands = parse(words)
    if not operands:
        raise RefusedError("qsub: this emulator reads no script from standard input", 2)
    script = Path.cwd() / operands[0]
    if not script.is_file():
        raise RefusedError("qsub: script file:: No such file or directory", 1)
    asked: dict[str, str] = {}
    resources: dict[str, str] = {}
    for source in [*(parse(line)[0] for line in directives(script)), found]:  # the command line comes last and wins
        for name, value in source.items():
            if name == "l":
                resources |= split_resources(value)
            else:
                asked[name] = value.split("\n")[-1]
    if core.is_down(folder, "qsub"):
        raise down("qsub")
    job = request(asked, resources, script, " ".join(words))
    limits = "qsub: Job violates queue and/or server resource limits"
    if core.settings(folder).get("need_filesystems") and "filesystems" not in resources:
        raise RefusedError("qsub: Resource: filesystems is required to be set.", 1)
    core.check_request(folder, job, "qsub: Unknown queue", limits, "qsub: Invalid account string", 188)
    lost = f"Connection timed out\nqsub: cannot connect to server {SERVER} (errno=110)"

    def too_many(limit: int, waiting_only: bool) -> RefusedError:
        words = f"would exceed queue {job['queue']}'s per-user limit"
        return RefusedError(f"qsub: {words}" + (" of jobs in 'Q' state" if waiting_only else ""), 15142 % 256)

    job = core.submit(folder, job, RefusedError(lost, 110), too_many)
    core.say(job["id"])
    return 0


def split_resources(text: str) -> dict[str, str]:
    """`select=2:system=polaris`, `walltime=01:00:00,place=scatter`; lines are separate options."""
    found = {}
    for part in re.split(r"[\n,]", text):
        name, equals, value = part.partition("=")
        if not equals or not value or not re.fullmatch(r"[a-z_]+", name):
            raise RefusedError("qsub: illegal -l value", 2)
        if name not in ("select", "walltime", "place", "filesystems", "ncpus", "mem", "nodes", "singularity_fakeroot"):
            raise RefusedError(f"qsub: Unknown resource: {name}", 15034 % 256)
        found[name] = value
    return found


def request(asked: dict[str, str], resources: dict[str, str], script: Path, arguments: str) -> Job:
    """A job from options and resources."""
    name = asked.get("N", script.name[:15])
    if not re.fullmatch(r"[A-Za-z0-9_+.@#-][^\s/]{0,235}", name) or name[0] in "-.":
        raise RefusedError("qsub: illegal -N value", 2)
    chunk = resources.get("select", "1").split(":")
    if not chunk[0].isdigit() or not all("=" in part for part in chunk[1:]) or chunk[0] == "0":
        raise RefusedError("qsub: Illegal attribute or resource value Resource_List.select", 15014 % 256)
    try:
        walltime = core.seconds(resources.get("walltime", "00:30:00"))
    except ValueError:
        raise RefusedError("qsub: illegal -l value", 2) from None
    if asked.get("j", "n") not in ("oe", "eo", "n"):
        raise RefusedError("qsub: illegal -j value", 2)
    if set(asked.get("k", "n")) - set("oedn"):
        raise RefusedError("qsub: illegal -k value", 2)
    cwd = str(Path.cwd())
    submitted = {"PBS_O_WORKDIR": cwd, "PBS_O_HOST": socket.gethostname(), "PBS_O_QUEUE": asked.get("q", "default")}
    told = ("HOME", "LANG", "LOGNAME", "PATH", "SHELL")
    submitted |= {f"PBS_O_{key}": os.environ[key] for key in told if key in os.environ}
    exported = {k: v for k, v in os.environ.items() if not k.startswith("PBS_")} if "V" in asked else {}
    for pair in filter(None, asked.get("v", "").split(",")):
        key, equals, value = pair.partition("=")
        exported[key] = value if equals else os.environ.get(key, "")
    join = asked.get("j", "n")
    return {
        "kind": "pbs", "id_format": "{}." + SERVER, "name": name, "script": str(script), "copy": True, "cwd": cwd,
        "nodes": int(chunk[0]), "walltime_s": walltime, "resources": resources, "queue": asked.get("q", "default"),
        "account": asked.get("A", ""), "hold": "h" in asked, "join": join, "keep": asked.get("k", "n"),
        "output_asked": asked.get("o", ""), "error_asked": asked.get("e", ""), "variables": submitted | exported,
        "submit_arguments": arguments, "rerunnable": asked.get("r", "y") == "y", "shell": asked.get("S", ""),
    }  # fmt: skip


def qselect(words: list[str]) -> int:
    """The ids of the jobs that are as asked for, one a line and no word if there is none (openpbs, src/cmds/qselect.c).

    Everybody's without -u; ended ones only with -x (all states) or -H (them alone).
    """
    folder = core.home()
    try:
        found, rest = core.options(words, "a A c h l N p P q r s t u", "H J T x")
    except RefusedError:
        raise RefusedError(
            "usage: qselect [-u user_name[,user_name...]] [-N name] [-s states] [-q dest] [-x] [-H]", 2
        ) from None
    if rest:
        raise RefusedError("usage: qselect [-u user_name[,user_name...]] [-N name] [-s states] [-q dest] [-x] [-H]", 2)
    if core.is_down(folder, "qselect"):
        raise down("qselect")
    live = core.visible(folder, core.live_jobs(folder)) + core.strangers(folder)
    ended = [core.read_json(path) for path in (folder / "done").glob("[0-9]*.json")] if {"x", "H"} & set(found) else []
    shown = sorted(ended, key=lambda job: job["number"]) + ([] if "H" in found else live)
    if "u" in found:
        users = [user.partition("@")[0] for user in found["u"].split(",")]
        shown = [job for job in shown if job["user"] in users]
    if "N" in found:
        shown = [job for job in shown if job["name"] == found["N"]]
    if "s" in found:
        shown = [job for job in shown if LETTERS[job["state"]] in found["s"]]
    if "q" in found:
        shown = [job for job in shown if job["queue"] == found["q"].partition("@")[0]]
    for job in shown:
        core.say(job["id"] if "." in job["id"] else f"{job['id']}.{SERVER}")
    return 0


def qstat(words: list[str]) -> int:
    """Jobs as a table or, with -f -F json, in full; with -x also ended ones."""
    folder = core.home()
    try:
        found, wanted = core.options(words, "F u", "f x a n s w 1 H r i t xf fx")
    except RefusedError:
        raise RefusedError("usage: qstat [-f] [-F format] [-x] [-u user] [job_identifier...]", 2) from None
    for both in ("xf", "fx"):
        if both in found:
            found |= {"x": "", "f": ""}
    history = "x" in found or "H" in found
    if core.is_down(folder, "qstat"):
        raise down("qstat")
    shown, code = choose(folder, wanted, history)
    if "u" in found:
        shown = [job for job in shown if job["user"] in found["u"].split(",")]
    if "f" in found and found.get("F") == "json":
        content: dict[str, Any] = {"timestamp": int(time.time()), "pbs_version": "2022.1.1.20220926110806"}
        content["pbs_server"] = SERVER
        foreign = [] if wanted or "u" in found else core.settings(folder)["foreign_records"]
        if shown:  # without any job the key is not there
            content["Jobs"] = {job["id"]: attributes(job) for job in shown}
        core.say(among(foreign, content) if foreign else json.dumps(content, indent=4))
    elif "f" in found:
        full(shown)
    elif shown:
        table(shown)
    return code


def full(jobs: list[Job]) -> None:
    """All attributes as text."""
    for job in jobs:
        core.say(f"Job Id: {job['id']}")
        for name, value in attributes(job).items():
            inner = value if isinstance(value, dict) else {"": value}
            for key, text in inner.items():
                core.say(f"    {name}{'.' if key else ''}{key} = {text}")
        core.say("")


def table(jobs: list[Job]) -> None:
    """One line a job."""
    core.say("Job id            Name             User              Time Use S Queue")
    core.say("----------------  ---------------- ----------------  -------- - -----")
    for job in jobs:
        used = core.clock(job.get("ended_at", time.time()) - job["started_at"]) if job.get("started_at") else "0"
        state = LETTERS[job["state"]]
        core.say(f"{job['id']:<16}  {job['name']:<16.16} {job['user']:<16}  {used:>8} {state} {job['queue']:<15}")


def choose(folder: Path, wanted: list[str], history: bool) -> tuple[list[Job], int]:
    """The jobs asked for and the exit code; what is not known is told on standard error."""
    live = core.visible(folder, core.live_jobs(folder))
    if not wanted:
        ended = [core.read_json(path) for path in (folder / "done").glob("[0-9]*.json")] if history else []
        return sorted(ended, key=lambda job: job["number"]) + live + core.strangers(folder), 0
    known = {str(job["number"]): job for job in live}
    shown, code = [], 0
    for word in wanted:
        number, _, server = word.partition(".")
        if not number.isdigit() or server not in ("", SERVER):
            code = tell(f"qstat: illegally formed job identifier: {word}", 1)
        elif number in known:
            shown.append(known[number])
        elif (job := core.find(folder, number)) is None or job["state"] != "finished":
            code = tell(f"qstat: Unknown Job Id {number}.{SERVER}", 153)
        elif history:
            shown.append(job)
        else:
            code = tell(f"qstat: {job['id']} Job has finished, use -x or -H to obtain historical job information", 35)
    return shown, code


def tell(text: str, code: int) -> int:
    """A line on standard error; returns the exit code that it means."""
    sys.stderr.write(text + "\n")
    return code


def qdel(words: list[str]) -> int:
    """Deletes jobs."""
    folder = core.home()
    found, wanted = core.options(words, "W", "x")
    if not wanted:
        raise RefusedError("usage:\n\tqdel [-W force|suppress_email=X] [-x] job_identifier...", 2)
    if core.is_down(folder, "qdel"):
        raise down("qdel")
    code = 0
    for word in wanted:
        number, _, server = word.partition(".")
        job = core.find(folder, number) if server in ("", SERVER) else None
        if job is None:
            code = tell(f"qdel: Unknown Job Id {number}.{SERVER}", 153)
        elif job["state"] == "finished":
            if "x" not in found:
                code = tell(f"qdel: Job has finished {job['id']}", 35)
        else:
            core.request_deletion(folder, job)
    return code


def environment(folder: Path, job: Job) -> dict[str, str]:
    """A login environment, PBS's variables and those asked for by -v or -V: PATH is the node's, not the submitter's."""
    return {
        "HOME": os.environ.get("HOME", "/"), "USER": job["user"], "LOGNAME": job["user"], "SHELL": "/bin/bash",
        "PATH": f"{folder / 'bin'}:/usr/local/bin:/usr/bin:/bin", "EMULATOR_HOME": str(folder),
        **job["variables"], "PBS_JOBID": job["id"], "PBS_JOBNAME": job["name"], "PBS_QUEUE": job["queue"],
        "PBS_NODEFILE": str(folder / "spool" / f"{job['number']}.nodes"), "PBS_ENVIRONMENT": "PBS_BATCH",
    }  # fmt: skip


def command(job: Job) -> list[str]:
    """What is run: the copy made at submission, by the shell asked for (-S), else by the user's login shell, whatever
    the script's first line says."""
    return [job["shell"] or job["login_shell"], job["run"]]


def workdir(folder: Path, job: Job) -> str:
    """Jobs start in the home folder, here one of the emulator's own: a script must go to PBS_O_WORKDIR itself."""
    return str(folder / "home")


def files(folder: Path, job: Job) -> tuple[str, str]:
    """Spooled, and moved at the end; written in place with `-k d`."""
    paths = {"output": place(job, job["output_asked"], "o"), "error": place(job, job["error_asked"], "e")}
    if "d" not in job["keep"]:
        paths = {key: str(folder / "spool" / f"{job['number']}.{key}") for key in paths}
    if job["join"] == "oe":
        paths["error"] = paths["output"]
    elif job["join"] == "eo":
        paths["output"] = paths["error"]
    job["streams"] = paths
    return paths["output"], paths["error"]


def started(folder: Path, job: Job) -> None:
    """The list of the job's nodes; and which server it is today."""
    chosen = core.settings(folder)
    job["walltime_status"], job["login_shell"] = chosen["walltime_status"], chosen["login_shell"]
    (folder / "spool" / f"{job['number']}.nodes").write_text("".join(f"{host}\n" for host in nodes(job)))


def word(job: Job, why: str) -> None:
    """What standard error says when something ends a job."""
    if why in KILLED and "streams" in job:
        used = int(time.time() - job["started_at"])
        with Path(job["streams"]["error"]).open("a") as file:
            file.write(KILLED[why].format(used=max(used, job["walltime_s"]), limit=job["walltime_s"]))


def ended(folder: Path, job: Job) -> None:
    """Output files go where they belong; where they cannot, they stay in the spool as undelivered."""
    if "streams" not in job or "d" in job["keep"]:
        return
    for key, letter in (("output", "o"), ("error", "e")):
        spooled = Path(job["streams"][key])
        if spooled.name.endswith(key) and spooled.exists():
            target = Path(place(job, job[f"{key}_asked"], letter))
            try:
                target.write_bytes(spooled.read_bytes())
            except OSError:
                spooled.rename(spooled.with_name(f"{spooled.name}.undelivered"))
            else:
                spooled.unlink()
