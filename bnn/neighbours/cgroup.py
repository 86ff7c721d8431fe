"""The control groups of this process: how many CPUs its quota allows, and how long it was held back by it.

Version 2 is one tree, version 1 has a tree per controller; /proc/self/mountinfo says where each is mounted. A quota of
a group above holds as well, so that all folders up to the mount point count. (Linux: Documentation/admin-guide/
cgroup-v2.rst and scheduler/sched-bwc.rst.)
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

ESCAPED = re.compile(r"\\([0-7]{3})")  # mountinfo writes a space as \040


def read_text(path: Path) -> str | None:
    """A small file; None where it cannot be read."""
    try:
        return path.read_text(errors="replace")
    except OSError:
        return None


def control_groups(controller: str, root: Path = Path("/")) -> list[Path]:
    """Folders of this process's groups with a controller (cpu, memory), its own first; empty where there are none."""
    memberships = _memberships(read_text(root / "proc/self/cgroup") or "")
    found: list[Path] = []
    for kind, controllers, inside, mounted in _mounts(read_text(root / "proc/self/mountinfo") or ""):
        if kind == "cgroup" and controller not in controllers:
            continue
        path = memberships.get(controller if kind == "cgroup" else "")
        if path is not None:
            top = root / mounted.lstrip("/")
            found += [folder for folder in _upwards(top, _below(path, inside)) if folder not in found]
    return found


def _memberships(text: str) -> dict[str, str]:
    """Path by controller, that of version 2 under the empty name: lines `4:cpu,cpuacct:/path`, `0::/path`."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        _, _, rest = line.partition(":")
        controllers, colon, path = rest.partition(":")
        if colon:
            found |= dict.fromkeys(controllers.split(","), path)
    return found


def _mounts(text: str) -> Iterator[tuple[str, list[str], str, str]]:
    """(file system, its options, folder of it that is mounted, mount point) of every mounted control group tree."""
    for line in text.splitlines():
        before, separator, after = line.partition(" - ")
        words, last = before.split(), after.split()
        if separator and len(words) >= 5 and last and last[0] in ("cgroup", "cgroup2"):
            yield last[0], last[-1].split(","), _plain(words[3]), _plain(words[4])


def _plain(path: str) -> str:
    return ESCAPED.sub(lambda match: chr(int(match[1], 8)), path)


def _below(path: str, inside: str) -> PurePosixPath:
    """Where a group lies below the mount point. In a container the mounted folder can be the group itself."""
    try:
        relative = PurePosixPath(path).relative_to(inside)
    except ValueError:
        return PurePosixPath()
    return PurePosixPath() if ".." in relative.parts else relative


def _upwards(top: Path, relative: PurePosixPath) -> Iterator[Path]:
    yield top / relative
    for parent in relative.parents:
        yield top / parent


def held_back_seconds(groups: list[Path]) -> float | None:
    """CPU seconds for which a quota has kept these groups from running so far; None where no group counts them."""
    total = None
    for group in groups:
        counted = _throttled(read_text(group / "cpu.stat") or "")
        if counted is not None:
            total = counted + (total or 0.0)
    return total


def _throttled(text: str) -> float | None:
    """`throttled_usec` in version 2, `throttled_time` in nanoseconds in version 1."""
    for line in text.splitlines():
        name, _, value = line.partition(" ")
        if name in ("throttled_usec", "throttled_time") and value.strip().isdecimal():
            return int(value) / (1e6 if name == "throttled_usec" else 1e9)
    return None


def quota_cpus(groups: list[Path]) -> float | None:
    """CPUs that the tightest quota of these groups allows; None without one."""
    found = [allowed for group in groups if (allowed := _quota(group)) is not None]
    return min(found, default=None)


def _quota(group: Path) -> float | None:
    """`cpu.max` of version 2 (`200000 100000` or `max 100000`), two files in version 1 (-1: no quota)."""
    words = (read_text(group / "cpu.max") or "").split()
    if not words:
        pair = [read_text(group / name) or "" for name in ("cpu.cfs_quota_us", "cpu.cfs_period_us")]
        words = [word.strip() for word in pair]
    if len(words) == 2 and all(word.isdecimal() for word in words) and int(words[0]) > 0 and int(words[1]) > 0:
        return int(words[0]) / int(words[1])
    return None
