"""Which processes belong to a job, and how they are ended."""

import contextlib
import os
import signal
import time
from pathlib import Path

MARK = "EMULATOR_JOB"


def members(mark: str, leader: int | None = None) -> list[int]:
    """Process ids of a job: those whose environment carries the job's mark, and those in the leader's session.

    Both, since MPICH's ranks live in sessions of their own, and a process may have emptied its environment.
    """
    wanted = f"{MARK}={mark}".encode()
    found = []
    for path in Path("/proc").iterdir():
        if not path.name.isdigit() or int(path.name) == os.getpid():
            continue
        with contextlib.suppress(OSError, ValueError):
            in_session = leader is not None and os.getsid(int(path.name)) == leader
            if in_session or wanted in (path / "environ").read_bytes().split(b"\0"):
                found.append(int(path.name))
    return found


def send(number: int, pids: list[int]) -> None:
    """Sends a signal to processes, some of which may be gone."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def terminate(leader: int) -> None:
    """SIGTERM to the job's process group."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(leader, signal.SIGTERM)


def eradicate(mark: str, leader: int | None, spare_leader: bool = False) -> None:
    """SIGKILL to all processes of a job until none is left; TimeoutError where one stays for 10 s.

    Killed ones take a while to be gone, on a busy machine more than a few looks; and one that is just executing
    another program shows no environment for a moment, so that only two looks in a row tell that there is none.
    """
    deadline = time.monotonic() + 10.0
    calm = 0
    while calm < 2:
        pids = [pid for pid in members(mark, leader) if not (spare_leader and pid == leader) and not zombie(pid)]
        if pids and time.monotonic() > deadline:
            raise TimeoutError(f"processes of job {mark} outlive SIGKILL: {pids}")
        send(signal.SIGKILL, pids)
        calm = 0 if pids else calm + 1
        time.sleep(0.005)


def zombie(pid: int) -> bool:
    """Whether a process has ended and only waits to be collected."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True
