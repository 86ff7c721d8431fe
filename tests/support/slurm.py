"""A real Slurm for tests: slurmctld and one slurmd per "host", each host a network namespace on a private bridge.

A test module asks for the plugin and its tests for the fixture:

    pytest_plugins = ["tests.support.slurm"]

    def test_something(cluster: Cluster) -> None:
        job = cluster.submit(script)
        assert cluster.wait(job)["JobState"] == "COMPLETED"

All processes of a cluster live in its namespaces, so these alone say what a killed run has left behind.
(PYTEST_DONT_REWRITE: test modules import this one before pytest does.)
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from filelock import FileLock, Timeout

from tests.support.ranks import environment

HOSTS, CORES = 4, 2
SLOTS = 16  # clusters that can be up at a time on one machine
HOST_SCRIPT = Path(__file__).with_name("slurm_host.sh")
ENDED = frozenset({
    "BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED", "TIMEOUT",
})  # fmt: skip

# What a site's modules would do. Without the first line MPI finds that the "hosts" share memory, and their links stay
# idle. Without the second its address is long, and mpi/pmi2 of Slurm 22.05 loses the thread where it comes in pieces.
TASK_PROLOG = """\
#!/bin/sh
echo export UCX_TLS=tcp,self
echo export UCX_NET_DEVICES=eth0
"""
# MinJobAge: `scontrol show job` knows a job for ten minutes after its end. KillWait: seconds between SIGTERM and
# SIGKILL at the time limit. config_overrides: believe this file, not the machine, about the number of cores.
# batch_sched_delay, sched_interval: jobs start within a second. MessageTimeout: commands give up after four seconds
# while slurmctld is down. Everything else is a site's usual choice or the default.
CONF = """\
ClusterName={name}
SlurmctldHost={name}ctl({net}.100)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={home}/munge.socket
StateSaveLocation={home}/state
SlurmdSpoolDir={home}/spool/%n
SlurmctldPidFile={home}/slurmctld.pid
SlurmdPidFile={home}/%n.pid
SlurmctldLogFile={home}/slurmctld.log
SlurmdLogFile={home}/%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
SchedulerParameters=batch_sched_delay=0,sched_interval=1
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
TaskProlog={home}/task_prolog
MailProg=/bin/true
ReturnToService=2
MessageTimeout=5
MinJobAge=600
OverTimeLimit=0
KillWait=2
"""


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


class Cluster:
    """The cluster of one slot, from `start` to `stop`. Nodes are named `<name>n1`, `<name>n2`, ..."""

    def __init__(self, slot: int, home: Path, hosts: int = HOSTS) -> None:
        self.name, self.home = f"bnn{slot}", home
        self.net = f"198.18.{slot}"  # RFC 2544 reserves 198.18.0.0/15 for tests, so nobody's network is shadowed
        self.nodes = [f"{self.name}n{i}" for i in range(1, hosts + 1)]
        self.controller = f"{self.name}ctl"
        self.conf = home / "slurm.conf"
        self._daemons: dict[str, subprocess.Popen] = {}

    # What tests use

    def submit(self, script: Path, *options: str) -> str:
        """`sbatch` a script; returns the job's id."""
        return run("sbatch", "--parsable", *options, script).strip()

    def show(self, job: str) -> dict[str, str]:
        """What `scontrol show job` says of a job, also for ten minutes after its end."""
        fields = re.findall(r"(?:^| )([A-Za-z:/]+)=(\S*)", run("scontrol", "show", "job", "--oneliner", job))
        return dict(fields)

    def wait(self, job: str, states: frozenset[str] | set[str] = ENDED, timeout: float = 60) -> dict[str, str]:
        """Wait until a job is in one of the states; returns `show`."""
        poll(lambda: self.show(job)["JobState"] in states, lambda: f"job {job}: {self.show(job)}", timeout)
        return self.show(job)

    def end_time_limit(self, job: str) -> None:
        """Let the time limit of a running job end now; slurmctld looks at limits every 30 seconds."""
        run("scontrol", "update", f"JobId={job}", "EndTime=now")

    def down(self) -> None:
        """The scheduler cannot be reached: slurmctld ends as at a shutdown, running jobs go on."""
        daemon = self._daemons.pop("slurmctld")
        daemon.terminate()
        daemon.wait(timeout=30)

    def up(self) -> None:
        """Start slurmctld, which goes on from its saved state."""
        self._start("slurmctld", self.controller, "slurmctld", "-D", "-f", self.conf)
        poll(self._answers, self._logs, 30)

    def fail_node(self, node: str) -> None:
        """A host loses its power: all its processes are killed, and the scheduler takes it for down."""
        kill_all(node)
        self._daemons.pop(node).wait(timeout=30)
        run("scontrol", "update", f"NodeName={node}", "State=DOWN", "Reason=test")

    def restore_node(self, node: str) -> None:
        """A failed host is back, and takes jobs."""
        self._start_node(node)
        poll(lambda: run("sinfo", "-h", "-n", node, "-o", "%T").strip() in ("idle", "mixed"), self._logs, 30)

    # How it comes and goes

    def start(self) -> None:
        """Hosts, then daemons; returns when all nodes are idle."""
        for folder in ("state", "spool", "sys"):
            (self.home / folder).mkdir()
        addresses = {node: f"{self.net}.{i}" for i, node in enumerate(self.nodes, 1)}
        addresses[self.controller] = f"{self.net}.100"
        lines = [f"{address} {host}" for host, address in addresses.items()]
        (self.home / "hosts").write_text("127.0.0.1 localhost\n" + "\n".join(lines) + "\n")
        prolog = self.home / "task_prolog"
        prolog.write_text(TASK_PROLOG)
        prolog.chmod(0o755)
        nodes = [f"NodeName={n} NodeAddr={addresses[n]} CPUs={CORES} RealMemory=1000" for n in self.nodes]
        partition = "PartitionName=debug Nodes=ALL Default=YES MaxTime=INFINITE State=UP"
        self.conf.write_text("\n".join([CONF.format(**vars(self)), *nodes, partition]) + "\n")
        self._wire(addresses)
        self._start_munge()
        self._start("slurmctld", self.controller, "slurmctld", "-D", "-f", self.conf)
        for node in self.nodes:
            self._start_node(node)
        self._wait_idle()

    def stop(self) -> None:
        """End all processes of the cluster and remove its network."""
        sweep(self.name)
        for daemon in self._daemons.values():
            daemon.wait(timeout=30)

    def _wire(self, addresses: dict[str, str]) -> None:
        bridge = f"{self.name}br"
        run("ip", "link", "add", bridge, "type", "bridge")
        run("ip", "address", "add", f"{self.net}.254/24", "dev", bridge)
        run("ip", "link", "set", bridge, "up")
        for host, address in addresses.items():
            run("ip", "netns", "add", host)
            run("ip", "link", "add", host, "type", "veth", "peer", "name", "eth0", "netns", host)
            run("ip", "link", "set", host, "master", bridge, "up")
            run("ip", "-n", host, "link", "set", "lo", "up")
            run("ip", "-n", host, "address", "add", f"{address}/24", "dev", "eth0")
            run("ip", "-n", host, "link", "set", "eth0", "up")

    def _start(self, key: str, host: str, *command: str | Path) -> None:
        with (self.home / f"{key}.out").open("ab") as out:
            self._daemons[key] = subprocess.Popen(
                ["bash", HOST_SCRIPT, host, self.home, *command], stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                start_new_session=True, env=environment(),
            )  # fmt: skip

    def _start_munge(self) -> None:
        """Our own munged and key: the machine's, if it has one, is left alone."""
        key, socket = self.home / "munge.key", self.home / "munge.socket"
        key.touch(mode=0o600)
        key.write_bytes(os.urandom(128))
        files = [f"--{name}-file={self.home / f'munge.{name}'}" for name in ("key", "pid", "log", "seed")]
        # (--force: the folder may belong to root alone, as all of the cluster does)
        self._start("munged", self.controller, "munged", "--foreground", "--force", f"--socket={socket}", *files)
        poll(socket.exists, self._logs, 30)

    def _start_node(self, node: str) -> None:
        self._start(node, node, "slurmd", "-D", "-N", node, "-f", self.conf)

    def _answers(self) -> bool:
        return subprocess.run(["sinfo"], capture_output=True).returncode == 0

    def _wait_idle(self) -> None:
        def idle() -> bool:
            done = subprocess.run(["sinfo", "-h", "-o", "%T %D"], capture_output=True, text=True)
            return done.stdout.strip() == f"idle {len(self.nodes)}"

        poll(idle, self._logs, 30)

    def _logs(self) -> str:
        """The last lines of everything the daemons have said."""
        tails = [
            f"== {f.name}\n" + f.read_text()[-1500:] for p in ("*.log", "*.out") for f in sorted(self.home.glob(p))
        ]
        return f"Slurm in {self.home} does not work\n" + "\n".join(tails)


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
    """Remove all that there is of the cluster called `name`; nothing is no error."""
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
        lock = FileLock(f"/run/bnn-slurm-{slot}.lock")
        with suppress(Timeout):
            lock.acquire(timeout=0)
            sweep(f"bnn{slot}")
            if found is None:
                found = slot, lock
            else:
                lock.release()
    if found is None:
        raise RuntimeError(f"all {SLOTS} slots for clusters are taken (/run/bnn-slurm-*.lock)")
    return found


def why_not() -> str | None:
    """Why there can be no cluster on this machine; None where there can."""
    if os.geteuid() != 0:
        return "a Slurm cluster needs root"
    setgroups = Path("/proc/self/setgroups")  # slurmctld drops its groups, which a user namespace may forbid
    if setgroups.exists() and setgroups.read_text().strip() == "deny":
        return "a Slurm cluster needs root, not root of a user namespace without setgroups"
    tools = ("slurmctld", "slurmd", "munged", "ip", "nsenter", "unshare")
    if missing := [tool for tool in tools if shutil.which(tool) is None]:
        return f"a Slurm cluster needs {', '.join(missing)} (Debian: slurm-wlm, munge, iproute2, util-linux)"
    probe = f"bnnprobe{os.getpid()}"
    try:
        run("ip", "netns", "add", probe)
    except RuntimeError as error:
        return f"a Slurm cluster needs network namespaces: {error}"
    try:
        run("ip", "-n", probe, "link", "add", "probe", "type", "bridge")
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "hosts").touch()
            Path(folder, "sys").mkdir()
            run("bash", HOST_SCRIPT, probe, folder, "true")
    except RuntimeError as error:
        return f"a Slurm cluster needs bridges, and hosts with mounts of their own: {error}"
    finally:
        run("ip", "netns", "delete", probe)
    return None


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Four idle hosts of two cores; SLURM_CONF points to them until the end of the session."""
    if reason := why_not():
        pytest.skip(reason)
    slot, lock = claim()
    cluster = Cluster(slot, tmp_path_factory.mktemp("slurm"))
    with lock, pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_CONF", str(cluster.conf))
        try:
            cluster.start()
            yield cluster
        finally:
            cluster.stop()
