"""aprun (Cray) and mpiexec (PALS): options checked as there, ranks started by MPICH's own mpiexec on this machine."""

import math
import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.emulators import core
from tests.emulators.core import RefusedError

CORES, THREADS = 64, 4  # of a node of Theta
APRUN = {
    "pes": "n", "pes-per-node": "N", "depth": "d", "cpus-per-cu": "j", "cpu-binding": "cc", "environment-override": "e",
    "env": "e", "node-list": "L", "memory-per-pe": "m",
}  # fmt: skip
BINDINGS = ("none", "numa", "socket", "core", "thread", "depth")
# Sets what the real launcher tells a rank, and takes away what MPICH's own tells beyond that.
HYDRA = 'unset MPI_LOCALRANKID MPI_LOCALNRANKS EMULATED_DEPTH EMULATED_PPN; exec "$@"'
CRAY = "export ALPS_APP_PE=$PMI_RANK ALPS_APP_DEPTH=$EMULATED_DEPTH; " + HYDRA
PALS = (
    "export PALS_RANKID=$PMI_RANK PALS_NODEID=$((PMI_RANK / EMULATED_PPN)) PALS_DEPTH=$EMULATED_DEPTH "
    "PALS_LOCAL_RANKID=$((PMI_RANK % EMULATED_PPN)); " + HYDRA
)


def number(found: dict[str, str], name: str, default: int, who: str) -> int:
    """A positive number given to an option."""
    text = found.get(name, str(default))
    if not text.isdigit() or int(text) < 1:
        raise RefusedError(f"{who}: -{name} value must be a positive integer: {text}", 1)
    return int(text)


def ranks(count: int, script: str, program: list[str], variables: dict[str, str]) -> int:
    """Runs the ranks; returns their exit code. Signals are passed on."""
    start = [core.settings(core.home())["mpiexec"], "-launcher", "fork", "-rmk", "user", "-hosts", "localhost"]
    hidden = ("PBS_NODEFILE", "PBS_ENVIRONMENT")  # by which MPICH would look for other machines
    environment = {k: v for k, v in os.environ.items() if k not in hidden} | variables
    process = subprocess.Popen(
        [*start, "-n", str(count), "/bin/sh", "-c", script, "sh", *program], env=environment, stdin=subprocess.DEVNULL
    )
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda got, _: process.send_signal(got))
    code = process.wait()
    return code if code >= 0 else 128 - code


def pairs(text: str, who: str) -> dict[str, str]:
    """VARIABLE=VALUE, one a line."""
    found = {}
    for pair in filter(None, text.split("\n")):
        name, equals, value = pair.partition("=")
        if not equals:
            raise RefusedError(f"{who}: invalid environment variable: {pair}", 1)
        found[name] = value
    return found


def aprun(words: list[str]) -> int:
    """Cray's launcher: only within a Cobalt job, never beyond its nodes."""
    try:
        value = "n N d j cc e S L m t p r F R env " + " ".join(APRUN)
        found, program = core.options(words, value, "q b D ss quiet bypass-app-transfer")
    except RefusedError as problem:
        raise RefusedError(f"aprun: {problem}\nUsage: aprun [global_options] [command_options] cmd1", 1) from None
    found = {APRUN.get(name, name): text for name, text in found.items()}
    if not program:
        raise RefusedError("aprun: no command given\nUsage: aprun [global_options] [command_options] cmd1", 1)
    if "COBALT_JOBSIZE" not in os.environ:
        raise RefusedError("apsched: aprun is only allowed within a batch job", 1)
    count, per_node = number(found, "n", 1, "aprun"), number(found, "N", CORES, "aprun")
    per_node = min(per_node, count)
    depth, threads = number(found, "d", 1, "aprun"), number(found, "j", 1, "aprun")
    binding = found.get("cc", "cpu")
    if binding not in ("cpu", "depth", "none", "numa_node") and not binding[:1].isdigit():
        raise RefusedError(f"aprun: invalid -cc value: {binding}", 1)
    if threads > THREADS or per_node * depth > CORES * threads:
        raise RefusedError("apsched: claim exceeds reservation's CPUs", 1)
    claim(math.ceil(count / per_node))
    variables = pairs(found.get("e", ""), "aprun") | {"ALPS_APP_ID": str(os.getpid()), "EMULATED_DEPTH": str(depth)}
    code = ranks(count, CRAY, program, variables)
    if code:
        sys.stderr.write(f"Application {os.getpid()} exit codes: {code}\n")
    if "q" not in found and "quiet" not in found:
        core.say(f"Application {os.getpid()} resources: utime ~0s, stime ~0s, Rss ~4096, inblocks ~0, outblocks ~0")
    return code


def claim(nodes: int) -> None:
    """Takes nodes of the job that no other aprun of it has; they are free again when this process is gone."""
    folder = core.home() / "claims"
    folder.mkdir(exist_ok=True)
    job = os.environ["COBALT_JOBID"]
    with core.locked(core.home(), "claims"):
        taken = 0
        for path in folder.glob(f"{job}.*"):
            if Path(f"/proc/{path.suffix[1:]}").exists():
                taken += int(path.read_text())
            else:
                path.unlink()
        if taken + nodes > int(os.environ["COBALT_JOBSIZE"]):
            raise RefusedError("apsched: claim exceeds reservation's node-count", 1)
        (folder / f"{job}.{os.getpid()}").write_text(str(nodes))


def mpiexec(words: list[str]) -> int:
    """PALS's launcher: within a PBS job, never beyond its nodes."""
    try:
        value = "n np ppn d depth cpu-bind mem-bind e env host hosts hostfile wdir umask rlimits gpu-bind timeout"
        flags = "l label line-buffer envall envnone v verbose no-transfer exclusive"
        found, program = core.options(words, value, flags)
    except RefusedError as problem:
        raise RefusedError(f"mpiexec: {problem}\nUsage: mpiexec [OPTION]... executable [args...]", 1) from None
    if not program:
        raise RefusedError("mpiexec: no executable given\nUsage: mpiexec [OPTION]... executable [args...]", 1)
    nodefile = os.environ.get("PBS_NODEFILE")
    if nodefile is None:
        raise RefusedError("mpiexec: error: no allocation: PBS_NODEFILE is not set", 1)
    hosts = len(Path(nodefile).read_text().split())
    count = number({"n": found.get("n", found.get("np", "1"))}, "n", 1, "mpiexec")
    per_node = number(found, "ppn", 1, "mpiexec")
    binding = found.get("cpu-bind", "none")
    if binding not in BINDINGS and not binding.startswith(("list:", "mask:", "verbose")):
        raise RefusedError(f"mpiexec: invalid CPU binding: {binding}", 1)
    if math.ceil(count / per_node) > hosts:
        raise RefusedError(
            f"mpiexec: error: {count} ranks at {per_node} per node need more than the job's {hosts} nodes", 1
        )
    depth = number({"depth": found.get("depth", found.get("d", "1"))}, "depth", 1, "mpiexec")
    variables = pairs("\n".join(filter(None, [found.get("e"), found.get("env")])), "mpiexec")
    if "wdir" in found:
        os.chdir(found["wdir"])
    return ranks(count, PALS, program, variables | {"EMULATED_DEPTH": str(depth), "EMULATED_PPN": str(per_node)})
