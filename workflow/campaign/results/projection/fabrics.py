"""Networks by name, with published constants: what messages cost on them, by the algorithms of allreduce."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from bnn.errors import UserError
from campaign.io.schema import check, did_you_mean
from campaign.io.yamlfile import read_yaml
from campaign.results.projection.algorithms import terms
from campaign.results.projection.curves import Points
from campaign.results.projection.messages import Affine, Ways

BUILT_IN = Path(__file__).with_name("fabrics.yaml")
# What an MPI library does that knows nothing of nodes: the dearest that is expected of one.
FLAT = ("recursive doubling, by level", "Rabenseifner, by level")


@dataclass(frozen=True)
class Constants:
    """Seconds per message, and per byte; `within`: between ranks of one node; infinite where nothing is known of it."""

    call: float
    latency: float
    per_byte: float  # of all links of a node together
    within_latency: float
    within_per_byte: float
    reduction_per_byte: float

    def costs(self, per_node: int) -> dict[str, tuple[float, ...]]:
        """Costs of the terms of each algorithm (algorithms.py) in seconds, for nodes of `per_node` ranks.

        Where all ranks of a node cross the network at once, its links are shared among them; a ring crosses once per
        node. Reductions: all bytes at each of log p steps by recursive doubling, each byte once by the others.
        """
        inner, net, add = self.within_per_byte, self.per_byte, self.reduction_per_byte
        near = self.within_latency
        if per_node == 1:
            inner, near = 0.0, 0.0
        shared, once = per_node * net, add / 2  # 2 (p - 1) / p m travel, half of them are added
        collect = 2 * inner + add if per_node > 1 else 0.0  # reduced within the node, and broadcast
        call, far = self.call, self.latency
        return {
            "recursive doubling, by level": (call, 0, near, inner + add, far, shared + add),
            "ring, by level": (call, 0, near, inner + once, far, net + once),
            "Rabenseifner, by level": (call, 0, 2 * near, 2 * far, inner + once, shared + once),
            "ring of nodes": (call, collect, 2 * near, 0, 0, far, net + once),
            "tree of nodes": (call, collect, 2 * near, 0, 2 * net + add, 2 * far),
        }


@dataclass(frozen=True)
class Fabric:
    """A network: `middle` are its constants, `best` and `worst` the ends of what was published of them."""

    name: str
    title: str
    middle: Constants
    best: Constants
    worst: Constants

    @property
    def source(self) -> str:
        """What rows say that rest on it."""
        return f"projected: fabric {self.name}, assumed from published facts"

    def within(self, per_node: int) -> bool:
        """Whether it says what it takes to know of nodes with so many ranks."""
        return per_node == 1 or math.isfinite(self.middle.within_per_byte + self.middle.within_latency)

    def faster(self, latency: float = 1.0, bandwidth: float = 1.0) -> Fabric:
        """The same with links between nodes of so many times its latency and bandwidth."""

        def changed(each: Constants) -> Constants:
            return replace(each, latency=each.latency * latency, per_byte=each.per_byte / bandwidth)

        return replace(self, middle=changed(self.middle), best=changed(self.best), worst=changed(self.worst))

    def messages(self, nodes: float, per_node: int) -> Ways:
        """What an allreduce takes there: by the fastest algorithm, as the `worst` by the fastest of FLAT."""
        return Ways(
            affine(self.middle, nodes, per_node),
            affine(self.best, nodes, per_node),
            affine(self.worst, nodes, per_node, FLAT),
        )


def affine(constants: Constants, nodes: float, per_node: int, among: tuple[str, ...] = ()) -> Affine:
    """Seconds of each algorithm as a + b bytes; all of them, or those `among` which a library chooses."""
    points = Points(np.full(2, float(nodes)), np.full(2, float(nodes * per_node)), np.array([0.0, 1.0]))
    ways = []
    for name, costs in constants.costs(per_node).items():
        if not among or name in among:
            fixed, one = terms(name, points) @ np.array(costs)
            ways.append((float(fixed), float(one - fixed)))
    return Affine(tuple(ways))


def load_fabric(name: str, path: Path = BUILT_IN) -> Fabric:
    """The network `name` of a file of them. Raises UserError naming file and key, and the known names."""
    values = read_yaml(path)
    check(values, "fabrics", str(path))
    known: dict[str, dict[str, Any]] = values["fabrics"]
    if name not in known:
        raise UserError(f"--fabric: {path} has no {name!r}{did_you_mean(name, known)}")
    entry = known[name]
    where = f"{path}: fabrics.{name}"
    links = entry.get("links_per_node", 1)
    parts = [  # of each constant: middle, best and worst, in seconds
        _seconds(entry, "call_us", where, 0.0),
        _seconds(entry, "latency_us", where, 0.0),
        tuple(each / links for each in _per_byte(entry, "gigabytes_per_second", where, 0.0)),
        _seconds(entry, "within_latency_us", where, math.inf),
        _per_byte(entry, "within_gigabytes_per_second", where, math.inf),
        _per_byte(entry, "reduction_gigabytes_per_second", where, 0.0),
    ]
    return Fabric(name, entry["title"], *(Constants(*(part[end] for part in parts)) for end in range(3)))


def _range(entry: dict[str, Any], key: str, where: str) -> tuple[float, float, float] | None:
    """Value, low and high of a constant; None where the file leaves it out."""
    if key not in entry:
        return None
    low, high = float(entry[key]["low"]), float(entry[key]["high"])
    value = float(entry[key].get("value", math.sqrt(low * high)))
    if not (low <= value * (1 + 1e-12) and value <= high * (1 + 1e-12) and math.isfinite(high)):
        raise UserError(f"{where}.{key}: {low:g}, {value:g}, {high:g} are no low, value and high in this order")
    return value, low, high


def _seconds(entry: dict[str, Any], key: str, where: str, absent: float) -> tuple[float, float, float]:
    found = _range(entry, key, where)
    if found is None:
        return absent, absent, absent
    value, low, high = found
    return value * 1e-6, low * 1e-6, high * 1e-6


def _per_byte(entry: dict[str, Any], key: str, where: str, absent: float) -> tuple[float, float, float]:
    found = _range(entry, key, where)
    if found is None:
        return absent, absent, absent
    value, low, high = found
    return 1e-9 / value, 1e-9 / high, 1e-9 / low
