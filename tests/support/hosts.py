"""Virtual hosts on this machine for tests: network namespaces on a private bridge, whose links can be made slow.

All processes of a set of hosts live in its namespaces, so these alone say what a killed run has left behind.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout

from tests.support.ranks import environment

SLOTS = 16  # sets of hosts that can be up at a time on one machine
HOST_SCRIPT = Path(__file__).with_name("host.sh")
# Without the first MPI finds that the "hosts" share memory, and their links stay idle. Without the second its address
# is long, and mpi/pmi2 of Slurm 22.05 loses the thread where it comes in pieces.
THROUGH_LINKS = {"UCX_TLS": "tcp,self", "UCX_NET_DEVICES": "eth0"}


def run(*command: str | Path, timeout: float = 60) -> str:
    """Standard output of a command on this machine, with the virtual environment on its PATH, as its jobs have it.

    RuntimeError with what the command said where it fails.
    """
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, env=environment())
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, command))}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def poll(condition: Callable[[], bool], what: Callable[[], str], timeout: float) -> None:
    """Wait until `condition` holds; after `timeout` seconds TimeoutError with what `what` says."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(what())
        time.sleep(0.05)


def net_of(slot: int) -> str:
    """The first three numbers of a set's addresses; RFC 2544 reserves 198.18.0.0/15 for tests: nobody's network."""
    return f"198.18.{slot}"


def wire(name: str, net: str, addresses: Mapping[str, str], home: Path) -> None:
    """Make the bridge `<name>br` with address `net`.254, the hosts with theirs, and `home` as HOST_SCRIPT wants it."""
    bridge = f"{name}br"
    (home / "sys").mkdir()
    lines = [f"{address} {host}" for host, address in addresses.items()]
    (home / "hosts").write_text("127.0.0.1 localhost\n" + "\n".join(lines) + "\n")
    run("ip", "link", "add", bridge, "type", "bridge")
    run("ip", "address", "add", f"{net}.254/24", "dev", bridge)
    run("ip", "link", "set", bridge, "up")
    for host, address in addresses.items():
        run("ip", "netns", "add", host)
        run("ip", "link", "add", host, "type", "veth", "peer", "name", "eth0", "netns", host)
        run("ip", "link", "set", host, "master", bridge, "up")
        run("ip", "-n", host, "link", "set", "lo", "up")
        run("ip", "-n", host, "address", "add", f"{address}/24", "dev", "eth0")
        run("ip", "-n", host, "link", "set", "eth0", "up")


def shape(hosts: Iterable[str], rate: str | None, burst: str = "512kb", queue: str = "50ms") -> None:
    """Let every host send at most at `rate`, as `tc` reads it (200mbit, 1gbit); None: as fast as it can.

    After a pause `burst` bytes leave at once; what would wait for longer than `queue` is lost, and sent again.
    """
    for host in hosts:
        subprocess.run(["ip", "netns", "exec", host, "tc", "qdisc", "del", "dev", "eth0", "root"], capture_output=True)
        if rate:
            limit = ("tbf", "rate", rate, "burst", burst, "latency", queue)
            run("ip", "netns", "exec", host, "tc", "qdisc", "add", "dev", "eth0", "root", *limit)


def sent(host: str) -> int:
    """Bytes that a shaped host has sent since its rate was set, with all headers, as `tc` counts them."""
    told = json.loads(run("ip", "netns", "exec", host, "tc", "-s", "-j", "qdisc", "show", "dev", "eth0", "root"))
    return int(told[0]["bytes"])


def kill_all(host: str) -> None:
    """SIGKILL for every process of a host, until none is left."""

    def empty() -> bool:
        pids = run("ip", "netns", "pids", host).split()
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        return not pids

    poll(empty, lambda: f"processes of host {host} cannot be killed", 30)


def sweep(name: str) -> None:
    """Remove all that there is of the hosts called `name...`; nothing is no error."""
    ours = re.compile(rf"^(?:\d+: )?({name}(?:n\d+|ctl|br))\b", re.MULTILINE)
    for host in ours.findall(run("ip", "netns", "list")):
        kill_all(host)
        run("ip", "netns", "delete", host)
    # By name and at once: the kernel removes the links of a deleted namespace some time later.
    for link in ours.findall(run("ip", "-o", "link")):
        subprocess.run(["ip", "link", "delete", link], capture_output=True)  # (may be gone by itself meanwhile)


def claim() -> tuple[int, FileLock]:
    """A slot of our own, and its lock, which the kernel frees when this process is gone, however it ends.

    A slot whose lock is free but which is not empty is what a killed run has left: it is swept.
    """
    found = None
    for slot in range(SLOTS):
        lock = FileLock(f"/run/bnn-hosts-{slot}.lock")
        with suppress(Timeout):
            lock.acquire(timeout=0)
            sweep(f"bnn{slot}")
            if found is None:
                found = slot, lock
            else:
                lock.release()
    if found is None:
        raise RuntimeError(f"all {SLOTS} sets of hosts are taken (/run/bnn-hosts-*.lock)")
    return found


def no_hosts() -> str | None:
    """Why there can be no such hosts on this machine; None where there can."""
    if os.geteuid() != 0:
        return "virtual hosts need root"
    if missing := [tool for tool in ("ip", "nsenter", "unshare") if shutil.which(tool) is None]:
        return f"virtual hosts need {', '.join(missing)} (Debian: iproute2, util-linux)"
    probe = f"bnnprobe{os.getpid()}"
    try:
        run("ip", "netns", "add", probe)
    except RuntimeError as error:
        return f"virtual hosts need network namespaces: {error}"
    try:
        run("ip", "-n", probe, "link", "add", "probe", "type", "bridge")
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "hosts").touch()
            Path(folder, "sys").mkdir()
            run("bash", HOST_SCRIPT, probe, folder, "true")
    except RuntimeError as error:
        return f"virtual hosts need bridges, and mounts of their own: {error}"
    finally:
        run("ip", "netns", "delete", probe)
    return None
