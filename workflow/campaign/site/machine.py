"""The machine that a site without a scheduler runs on, found out without privileges; and whose results a folder holds.

Files of Linux alone are read (Documentation/ABI/testing/sysfs-devices-system-cpu, admin-guide/cgroup-v2), of NVIDIA's
driver for GPUs. Each function takes the root of the file system, so that other machines can be shown to it.
"""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from bnn.cores import siblings
from bnn.errors import UserError
from bnn.neighbours.cgroup import control_groups, quota_cpus
from bnn.records.files import PROVENANCE, write_text

GIB = 2**30
ROOT = Path("/")
FILE = "machine.json"
# What the kernel keeps for itself differs between its versions: memory that differs by less is the same memory.
MEMORY_TOLERANCE = 0.1
GPUS_LOOKED_FOR = "/proc/driver/nvidia/gpus and nvidia-smi on PATH"


@dataclass(frozen=True)
class Machine:
    """What this process may use: physical cores, hardware threads of each, sockets they lie on, memory in GiB, GPUs."""

    cpu: str
    cores: int
    threads_per_core: int
    sockets: int
    memory_gb: float
    gpus: int = 0
    gpu: str = ""

    def __str__(self) -> str:
        gpus = f", {self.gpus} x {self.gpu}" if self.gpus else ""
        sockets = f" on {self.sockets} sockets" if self.sockets > 1 else ""
        return f"{self.cpu}, {_count(self.cores, 'core')}{sockets}, {self.memory_gb:.0f} GiB{gpus}"

    @property
    def slug(self) -> str:
        """As part of a folder's name: amd-epyc-9654-96-core-processor-96c."""
        words = re.sub(r"\((r|tm|c)\)|@.*| cpu\b", " ", self.cpu.lower())
        name = re.sub(r"[^a-z0-9]+", "-", words).strip("-")[:40].strip("-") or "cpu"
        gpus = f"-{self.gpus}gpu" if self.gpus else ""
        return f"{name}-{self.cores}c{gpus}"

    def same_as(self, other: Machine) -> bool:
        """Whether measurements of both may stand side by side."""
        near = abs(self.memory_gb - other.memory_gb) <= MEMORY_TOLERANCE * max(self.memory_gb, other.memory_gb)
        a, b = asdict(self), asdict(other)
        return near and all(a[key] == b[key] for key in a if key != "memory_gb")


def detect(root: Path = ROOT, affinity: Collection[int] | None = None, gpus: bool = False) -> Machine:
    """The machine, cut to what this process may use: its CPU affinity and its control group's quotas.

    A quota of hardware threads is taken as one of cores. GPUs are looked for only if asked.
    """
    usable = sorted(os.sched_getaffinity(0) if affinity is None else affinity)
    cores = {siblings(cpu, root) for cpu in usable}
    quota = quota_cpus(control_groups("cpu", root))
    threads = len(usable) if quota is None else max(1, min(len(usable), int(quota)))
    physical = min(len(cores), threads)
    found = find_gpus(root) if gpus else []
    return Machine(
        cpu=_cpu_model(root),
        cores=physical,
        threads_per_core=max(1, threads // physical),
        sockets=len({_number(_topology(root, cpu) / "physical_package_id") for cpu in usable}),
        memory_gb=round(_memory_bytes(root) / GIB, 1),
        gpus=len(found),
        gpu=" and ".join(dict.fromkeys(found)),
    )


def limited(machine: Machine, root: Path = ROOT) -> str:
    """Says that this process, which found `machine`, may use fewer cores than there are; empty where it may use all.

    Such a process, under taskset say, measures as on a smaller machine: its results are kept apart from the others'.
    """
    online = _cpu_list(_text(root / "sys/devices/system/cpu/online"))
    there = len({siblings(cpu, root) for cpu in online})
    if machine.cores >= there:
        return ""
    return f"this process may use {machine.cores} of {_count(there, 'core')} (CPU affinity or quota)"


def find_gpus(root: Path = ROOT) -> list[str]:
    """Names of the GPUs that a process here may use: by NVIDIA's driver, of those that CUDA_VISIBLE_DEVICES leaves."""
    names = []
    for file in sorted(root.glob("proc/driver/nvidia/gpus/*/information")):
        named = re.search(r"^Model:\s*(.+)$", _text(file), re.MULTILINE)
        names.append(named[1].strip() if named else "NVIDIA GPU")
    if not names and root == ROOT:  # WSL 2 and some containers have the program only
        command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
        try:
            asked = subprocess.run(command, capture_output=True, text=True, timeout=20)
        except (OSError, subprocess.TimeoutExpired):
            return []
        names = [line.strip() for line in asked.stdout.splitlines() if line.strip()] if asked.returncode == 0 else []
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return names
    # CUDA takes the entries up to the first that is no device (CUDA C programming guide, environment variables)
    shown = []
    for word in (word.strip() for word in visible.split(",")):
        if word.isdigit() and int(word) < len(names):
            shown.append(names[int(word)])
        elif word.startswith(("GPU-", "MIG-")) and names:
            shown.append(names[0])
        else:
            break
    return shown


def completed(hardware: dict[str, Any], scheduler: str, origin: str) -> tuple[dict[str, Any], Machine | None]:
    """A site file's `hardware` with what `detect: true` asks to find out, and the machine; what is given stays.

    Raises UserError without cores, and where the machine that this runs on is not the one that jobs run on.
    """
    given = dict(hardware)
    if not given.pop("detect", False):
        if "cores_per_node" not in given:
            raise UserError(f"{origin}: site.hardware.cores_per_node: missing (or detect: true)")
        return given, None
    if scheduler != "none":
        raise UserError(f"{origin}: site.hardware.detect: jobs of {scheduler} run on other machines: give numbers")
    machine = detect(gpus="gpus_per_node" not in given)
    cores = {"cores_per_node": machine.cores, "threads_per_core": machine.threads_per_core}
    if "cores_per_node" in given:  # hardware threads of these cores are what is left of the machine's
        threads = machine.cores * machine.threads_per_core
        cores["threads_per_core"] = max(1, threads // int(given["cores_per_node"]))
    found: dict[str, Any] = {
        "cpu": machine.cpu, "sockets": machine.sockets, "memory_gb": machine.memory_gb, "gpus_per_node": machine.gpus,
        "gpu": machine.gpu, **cores,
    }  # fmt: skip
    return found | given, machine


def name_results(name: str, machine: Machine, results: Path) -> tuple[str, str]:
    """The folder below `results` for measurements of this machine, and what to say if it is not `name`.

    The first machine takes `name`; another one `name-<processor>-<cores>c`. Writes nothing. Raises UserError for a
    record of a machine that cannot be read.
    """
    first = recorded(results / name, machine)
    if first is None or machine.same_as(first):
        return name, ""
    for other in _others(name, machine):
        holds = recorded(results / other, machine)
        if holds is None or machine.same_as(holds):
            break
    said = f"{results / name} holds measurements of {first}; those of this machine ({machine}) go to {results / other}"
    return other, said


def keep(machine: Machine, folder: Path) -> None:
    """Say in a site's results folder which machine is measured there; the first one stays."""
    if not (folder / FILE).exists():
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / FILE, json.dumps(asdict(machine), indent=1, sort_keys=True) + "\n")


def recorded(folder: Path, here: Machine) -> Machine | None:
    """The machine whose measurements a site's results folder holds; None where it holds none.

    A folder of an earlier version has no record of it: then the first cell's provenance tells, and what that leaves
    open (cores by hardware threads, GPUs) is as `here`.
    """
    file = folder / FILE
    if not file.exists():
        return _of_cells(folder, here)
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
        types: dict[str, Any] = {"cpu": str, "gpu": str, "memory_gb": (int, float)}
        if {field.name for field in fields(Machine)} != set(values):
            raise ValueError
        if not all(isinstance(value, types.get(key, int)) for key, value in values.items()):
            raise ValueError
        return Machine(**values)
    except OSError as error:
        raise UserError(f"{file}: {error.strerror}") from None
    except (ValueError, TypeError):
        raise UserError(f"{file}: not the record of a machine; put the folder aside, or restore the file") from None


def _of_cells(folder: Path, here: Machine) -> Machine | None:
    for file in sorted(folder.glob(f"cells/*/*/*/*/*/*/*/{PROVENANCE}")):
        try:
            rank = json.loads(file.read_text(encoding="utf-8"))["ranks"][0]
            cores = here.cores if rank["cores"] == os.cpu_count() else int(rank["cores"])
            memory = round(int(rank["memory_bytes"]) / GIB, 1)
            return replace(here, cpu=str(rank["cpu_model"]), cores=cores, memory_gb=memory)
        except (OSError, ValueError, LookupError, TypeError):
            continue
    return None


def _others(name: str, machine: Machine) -> Iterator[str]:
    yield f"{name}-{machine.slug}"
    number = 2
    while True:
        yield f"{name}-{machine.slug}-{number}"
        number += 1


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _number(file: Path) -> int:
    """The number in a file of the kernel's; -1 where there is none."""
    text = _text(file).strip()
    return int(text) if re.fullmatch(r"-?\d+", text) else -1


def _cpu_list(text: str) -> set[int]:
    """The numbers of a list of the kernel's, such as 0-3,8."""
    found: set[int] = set()
    for part in re.findall(r"\d+(?:-\d+)?", text):
        first, _, last = part.partition("-")
        found.update(range(int(first), int(last or first) + 1))
    return found


def _topology(root: Path, cpu: int) -> Path:
    return root / f"sys/devices/system/cpu/cpu{cpu}/topology"


def _cpu_model(root: Path) -> str:
    """As /proc/cpuinfo names it (bnn.provenance says the same); ARM states no name: the architecture."""
    named = re.search(r"^model name\s*:\s*(.+)$", _text(root / "proc/cpuinfo"), re.MULTILINE)
    return named[1].strip() if named else platform.machine()


def _memory_bytes(root: Path) -> int:
    """Of the machine, or of the control groups where they admit less."""
    total = re.search(r"^MemTotal:\s*(\d+) kB", _text(root / "proc/meminfo"), re.MULTILINE)
    found = [int(total[1]) * 1024] if total else []
    for folder in control_groups("memory", root):
        found += [limit for name in ("memory.max", "memory.limit_in_bytes") if (limit := _number(folder / name)) > 0]
    return min(found, default=0)
