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
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.hosts import HOST_SCRIPT, THROUGH_LINKS, claim, kill_all, net_of, no_hosts, poll, run, sweep, wire
from tests.support.ranks import environment

HOSTS, CORES = 4, 2
ENDED = frozenset({
    "BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED", "TIMEOUT",
})  # fmt: skip

# What a site's modules would do.
TASK_PROLOG = "".join(["#!/bin/sh\n", *(f"echo export {name}={value}\n" for name, value in THROUGH_LINKS.items())])
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


class Cluster:
    """The cluster of one slot, from `start` to `stop`. Nodes are named `<name>n1`, `<name>n2`, ..."""

    def __init__(self, slot: int, home: Path, hosts: int = HOSTS) -> None:
        self.name, self.home = f"bnn{slot}", home
        self.net = net_of(slot)
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
        for folder in ("state", "spool"):
            (self.home / folder).mkdir()
        addresses = {node: f"{self.net}.{i}" for i, node in enumerate(self.nodes, 1)}
        addresses[self.controller] = f"{self.net}.100"
        prolog = self.home / "task_prolog"
        prolog.write_text(TASK_PROLOG)
        prolog.chmod(0o755)
        nodes = [f"NodeName={n} NodeAddr={addresses[n]} CPUs={CORES} RealMemory=1000" for n in self.nodes]
        partition = "PartitionName=debug Nodes=ALL Default=YES MaxTime=INFINITE State=UP"
        self.conf.write_text("\n".join([CONF.format(**vars(self)), *nodes, partition]) + "\n")
        wire(self.name, self.net, addresses, self.home)
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


def why_not() -> str | None:
    """Why there can be no cluster on this machine; None where there can."""
    if os.geteuid() != 0:
        return "a Slurm cluster needs root"
    setgroups = Path("/proc/self/setgroups")  # slurmctld drops its groups, which a user namespace may forbid
    if setgroups.exists() and setgroups.read_text().strip() == "deny":
        return "a Slurm cluster needs root, not root of a user namespace without setgroups"
    if missing := [tool for tool in ("slurmctld", "slurmd", "munged") if shutil.which(tool) is None]:
        return f"a Slurm cluster needs {', '.join(missing)} (Debian: slurm-wlm, munge)"
    return no_hosts()


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
