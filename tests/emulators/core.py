"""State, settings and faults of an emulated scheduler, and what its commands share. Standard library only: commands
start without site-packages, to cost little."""

import contextlib
import fcntl
import json
import os
import pwd
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

Job = dict[str, Any]

DEFAULTS: dict[str, Any] = {
    "nodes": 8,
    "queues": {
        "default": {"max_walltime_s": 86400, "max_nodes": 4096},
        "debug": {"max_walltime_s": 3600, "max_nodes": 2},
    },
    "accounts": None,
    "time_scale": 1.0,
    "grace_s": 1.0,
    "starting_s": 0.0,
    "exiting_s": 0.05,
    "history": True,
    "requeue": False,
    "empty_table": True,
    "notice": None,
    "foreign": 0,
    "foreign_records": [],
    "walltime_status": None,
    "login_shell": "/bin/bash",
    "cluster": "local",
    "clusters": [],
    "max_jobs": None,
    "max_waiting": None,
    "mpiexec": "mpiexec",
}
LIVE = ("queued", "held", "starting", "running", "killing", "exiting")
ROOT = Path(__file__).parents[2]


class RefusedError(Exception):
    """A command ends with this text on standard error and this exit code."""

    def __init__(self, text: str, code: int = 1) -> None:
        super().__init__(text)
        self.code = code


def home() -> Path:
    """The emulator's folder, from EMULATOR_HOME."""
    folder = os.environ.get("EMULATOR_HOME")
    if not folder:
        raise RefusedError("EMULATOR_HOME is not set", 2)
    return Path(folder)


def user() -> str:
    """The submitting user's name: the account's, as schedulers take it, whatever the environment says."""
    return pwd.getpwuid(os.getuid()).pw_name


def read_json(path: Path) -> Any:
    """The content of a JSON file, or None where there is none."""
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        return None


def write_json(path: Path, content: Any) -> None:
    """Writes aside and renames: readers see the old or the new state."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    aside.write_text(json.dumps(content))
    os.replace(aside, path)


@contextlib.contextmanager
def locked(folder: Path, name: str) -> Iterator[None]:
    """Holds `folder/name.lock`; the kernel frees it when the process is gone."""
    with (folder / f"{name}.lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def settings(folder: Path) -> dict[str, Any]:
    """Defaults, overlaid with `settings.json`."""
    return {**DEFAULTS, **(read_json(folder / "settings.json") or {})}


def take(folder: Path, fault: str, name: str) -> dict[str, Any] | None:
    """Uses up one dose of a fault for the job `name`: its details, or None if the fault is not meant for it."""
    if not settings(folder).get(fault):
        return None
    with locked(folder, "settings"):
        stored: dict[str, Any] = read_json(folder / "settings.json") or {}
        value = stored.get(fault)
        details = value if isinstance(value, dict) else {}
        key = ("jobs" if "jobs" in details else "count") if details else None
        dose = details[key] if key else value
        if isinstance(dose, list):
            if name not in dose:
                return None
            rest: Any = list(dose)
            rest.remove(name)
        elif dose is True:
            rest = True
        elif dose:
            rest = dose - 1
        else:
            return None
        stored[fault] = {**details, key: rest} if key else rest
        write_json(folder / "settings.json", stored)
        return details or {"count": 1}


def event(folder: Path, what: str, job: Job, **more: Any) -> None:
    """Appends a line to `events.jsonl`: one write, so that lines of several processes do not mix."""
    line = {"time": time.time(), "event": what, "id": job["id"], "name": job["name"], "script": job["script"], **more}
    descriptor = os.open(folder / "events.jsonl", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(descriptor, (json.dumps(line) + "\n").encode())
    finally:
        os.close(descriptor)


def live_jobs(folder: Path) -> list[Job]:
    """All jobs that have not ended, by number."""
    found = (read_json(path) for path in (folder / "jobs").glob("[0-9]*.json"))
    return sorted((job for job in found if job), key=lambda job: job["number"])


def find(folder: Path, number: str) -> Job | None:
    """A job by number: live, or in the history if there is one."""
    if not number.isdigit():
        return None
    live: Job | None = read_json(folder / "jobs" / f"{number}.json")
    if live or not settings(folder)["history"]:
        return live
    ended: Job | None = read_json(folder / "done" / f"{number}.json")
    return ended


def visible(folder: Path, jobs: list[Job]) -> list[Job]:
    """The jobs that an unsteady server (fault `flap`) shows this time; the same sequence for the same seed."""
    chosen = settings(folder)
    chance = chosen.get("flap") or 0.0
    if not chance:
        return jobs
    with locked(folder, "flap"):
        turn = (read_json(folder / "flap.json") or 0) + 1
        write_json(folder / "flap.json", turn)
    seed = chosen.get("flap_seed", 0)
    return [job for job in jobs if zlib.crc32(f"{seed}/{turn}/{job['number']}".encode()) / 2**32 >= chance]


def strangers(folder: Path) -> list[Job]:
    """Jobs of other users that an unrestricted listing shows as well."""
    base = {
        "user": "stranger", "state": "running", "nodes": 1, "walltime_s": 3600, "queue": "default", "account": "other",
        "submitted_at": 1.0, "started_at": 2.0, "script": "/home/stranger/job.sh", "cwd": "/home/stranger", "pid": 1,
    }  # fmt: skip
    numbers = range(9_000_000, 9_000_000 + settings(folder)["foreign"])
    return [{**base, "number": number, "id": str(number), "name": f"job{number}"} for number in numbers]


def is_down(folder: Path, command: str) -> bool:
    """Whether the server cannot be reached now. Hangs first where the fault says so."""
    chosen = settings(folder)
    time.sleep(float(chosen.get("slow") or 0))
    down = chosen.get("down") or chosen.get("down_until", 0) > time.time()
    if not down or command not in chosen.get("down_commands", [command]):
        return False
    if down is not True:
        time.sleep(float(down))
    return True


def check_request(folder: Path, job: Job, unknown_queue: str, too_much: str, bad_account: str, code: int = 1) -> None:
    """Refuses an unknown queue or account, a walltime or nodes above the queue's limit, and what `refuse` says."""
    chosen = settings(folder)
    if chosen.get("refuse"):
        raise RefusedError(str(chosen["refuse"]), code)
    queue = chosen["queues"].get(job["queue"])
    if queue is None:
        raise RefusedError(unknown_queue, 170 if code == 188 else code)
    if job["walltime_s"] > queue["max_walltime_s"] or job["nodes"] > min(queue["max_nodes"], chosen["nodes"]):
        raise RefusedError(too_much, code)
    if chosen["accounts"] is not None and job["account"] not in chosen["accounts"]:
        raise RefusedError(bad_account, code)


def full(folder: Path, job: Job) -> tuple[int, bool] | None:
    """The limit of the user's jobs in a queue that this one would exceed, and whether it is of waiting jobs only."""
    chosen = settings(folder)
    here = [other for other in live_jobs(folder) if other["queue"] == job["queue"] and other["user"] == user()]
    for key, states in (("max_jobs", LIVE), ("max_waiting", ("queued", "held"))):
        limit = chosen[key].get(job["queue"]) if isinstance(chosen[key], dict) else chosen[key]
        if limit is not None and sum(other["state"] in states for other in here) >= limit:
            return int(limit), key == "max_waiting"
    return None


def disturbed(folder: Path) -> tuple[str, bool] | None:
    """What a confused server says to this submission (fault `disturb`), and whether it takes the job all the same."""
    fault = settings(folder).get("disturb")
    if not fault:
        return None
    with locked(folder, "disturb"):
        turn = (read_json(folder / "disturb.json") or 0) + 1
        write_json(folder / "disturb.json", turn)
    chance = [zlib.crc32(f"{fault.get('seed', 0)}/{turn}/{what}".encode()) / 2**32 for what in ("if", "what", "taken")]
    if chance[0] >= fault["rate"]:
        return None
    return fault["texts"][int(chance[1] * len(fault["texts"]))], chance[2] < fault.get("taken", 0.0)


def submit(folder: Path, job: Job, time_out: RefusedError, too_many: Callable[[int, bool], RefusedError]) -> Job:
    """Queues a job and makes sure that a server runs. `time_out` is what fault `submit_lost` raises afterwards,
    `too_many` what is said where a limit would be exceeded (see `full`)."""
    confused = disturbed(folder)
    if confused and not confused[1]:
        raise RefusedError(confused[0])
    with locked(folder, "submit"):
        if limit := full(folder, job):
            event(folder, "limited", {"id": "", **job}, limit=limit[0])
            raise too_many(*limit)
        number = (read_json(folder / "counter.json") or 1000) + 1
        write_json(folder / "counter.json", number)
        job = {**job, "number": number, "id": job["id_format"].format(number), "state": "queued", "user": user()}
        if job.get("copy"):  # the server runs the text of this moment, whatever becomes of the file
            spooled = folder / "spool" / f"{number}.sh"
            spooled.write_text(Path(job["script"]).read_text())
            spooled.chmod(0o700)
            job["run"] = str(spooled)
        for key in ("output", "error", "log"):
            if job.get(key):
                job[key] = job[key].replace("$jobid", str(number))
        if job["hold"]:
            job["state"] = "held"
        job["submitted_at"] = time.time()
        start_server(folder)  # before the job is there: whoever is killed from then on has submitted it for good
        write_json(folder / "jobs" / f"{number}.json", job)
        event(folder, "submitted", job, nodes=job["nodes"])
    if confused:
        raise RefusedError(confused[0])
    if take(folder, "submit_lost", job["name"]):
        raise time_out
    time.sleep(float(settings(folder).get("slow_qsub") or 0))
    return job


def start_server(folder: Path) -> None:
    """Starts the server unless one holds its lock. Called under the submission lock, which the server takes to end."""
    with (folder / "server.lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        child = os.fork()
        if child:
            os.waitpid(child, 0)
            return
        # Twice, so that nobody has to wait for it. It inherits the lock's descriptor and with that the lock itself.
        os.setsid()
        if os.fork():
            os._exit(0)
        null = os.open(os.devnull, os.O_RDWR)
        errors = os.open(folder / "server.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        os.dup2(null, 0)
        os.dup2(null, 1)
        os.dup2(errors, 2)
        os.dup2(lock.fileno(), 3)
        os.set_inheritable(3, True)  # dup2 onto itself changes nothing
        os.closerange(4, 256)
        text = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from tests.emulators import server; server.main()"
        os.execv(sys.executable, [sys.executable, "-I", "-S", "-c", text])


def request_deletion(folder: Path, job: Job) -> None:
    """Asks the server to end a job."""
    write_json(folder / "requests" / f"{job['number']}.json", {"by": user(), "at": time.time()})


def options(words: list[str], with_value: str, flags: str) -> tuple[dict[str, str], list[str]]:
    """Options in front of the first operand, by name without dashes. `with_value` and `flags` name those that exist.

    Raises RefusedError (exit code 2) for any other one.
    """
    known, bare = with_value.split(), flags.split()
    found: dict[str, str] = {}
    rest = list(words)
    while rest and rest[0].startswith("-") and rest[0] not in ("-", "--"):
        word = rest.pop(0)
        name, equals, value = word.lstrip("-").partition("=")
        short = not word.startswith("--")
        if short and name not in known and name not in bare and name[:1] in known:
            name, equals, value = name[:1], "=", word[2:]
        if name in bare and not equals:
            found[name] = ""
        elif name in known:
            if not equals:
                if not rest:
                    raise RefusedError(f"option {word} requires an argument", 2)
                value = rest.pop(0)
            found[name] = f"{found[name]}\n{value}" if name in found else value
        else:
            raise RefusedError(f"unrecognized option '{word}'", 2)
    if rest and rest[0] == "--":
        rest.pop(0)
    return found, rest


def seconds(text: str) -> int:
    """HH:MM:SS, MM:SS or seconds; ValueError otherwise."""
    total = 0
    for part in text.split(":"):
        total = 60 * total + int(part)
    return total


def clock(total: float) -> str:
    """Seconds as HH:MM:SS."""
    whole = max(0, int(total))
    return f"{whole // 3600:02d}:{whole % 3600 // 60:02d}:{whole % 60:02d}"


def say(text: str) -> None:
    """A line on standard output."""
    sys.stdout.write(text + "\n")


def finish(command: Any, words: list[str]) -> NoReturn:
    """Runs a command and ends the process with its exit code."""
    try:
        code = command(words) or 0
    except RefusedError as problem:
        sys.stderr.write(f"{problem}\n")
        code = problem.code
    sys.stdout.flush()
    sys.exit(code)
