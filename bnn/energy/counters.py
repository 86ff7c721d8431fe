"""Energy counters that Linux shows as files: Cray's pm_counters and RAPL's powercap zones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

CRAY = Path("/sys/cray/pm_counters")
POWERCAP = Path("/sys/class/powercap")


class NotMeasurableError(Exception):
    """Why energy cannot be measured on this node, in one line."""


@dataclass(frozen=True)
class Counter:
    """A counter of joules that only rises; one with `wraps_at` (J) starts again from 0 there."""

    name: str
    read: Callable[[], float]
    wraps_at: float | None = None

    def difference(self, before: float, now: float) -> float:
        """Joules between two readings with at most one wrap between them. Raises NotMeasurableError if it went back."""
        if now >= before:
            return now - before
        if self.wraps_at is None:
            raise NotMeasurableError(f"{self.name} went back from {before:.0f} J to {now:.0f} J")
        return now - before + self.wraps_at


def number(path: Path) -> float:
    """The number that a file begins with. Raises NotMeasurableError naming the file."""
    try:
        return float(path.read_text().split()[0])
    except PermissionError:
        raise NotMeasurableError(f"no permission to read {path}") from None
    except OSError as error:
        raise NotMeasurableError(f"{path}: {error.strerror}") from None
    except (ValueError, IndexError):
        raise NotMeasurableError(f"{path} does not hold a number") from None


def cray(folder: Path = CRAY) -> list[Counter]:
    """The energy of the whole node, accelerators included; empty on other machines."""
    path = folder / "energy"
    return [Counter(str(path), lambda: number(path))] if path.exists() else []


def rapl(folder: Path = POWERCAP) -> list[Counter]:
    """Every processor package once, and its memory where that is counted apart; empty without RAPL.

    A package's zones `core` and `uncore` are parts of it, and `psys` (the platform) contains it, so they are left out;
    `intel-rapl-mmio` shows the same packages again. Raises NotMeasurableError for a zone that cannot be read.
    """
    zones = {path.parent.name: path.parent for path in sorted(folder.glob("*/energy_uj"))}
    names = {zone: _text(path / "name") for zone, path in zones.items()}
    packages: dict[str, str] = {}  # zone by the package's name
    for zone in sorted(names, key=lambda zone: ("mmio" in zone, zone)):
        if names[zone].startswith("package"):
            packages.setdefault(names[zone], zone)
    memory = [z for z, name in names.items() if name == "dram" and z.rpartition(":")[0] in packages.values()]
    return [_zone(zones[zone]) for zone in [*packages.values(), *memory]]


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def _zone(folder: Path) -> Counter:
    path = folder / "energy_uj"
    number(path)  # a missing permission shows now
    return Counter(str(path), lambda: number(path) / 1e6, number(folder / "max_energy_range_uj") / 1e6)
