"""Networks by name: the file of presets, what it refuses, and allreduces by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from bnn.errors import UserError
from campaign.results.projection.fabrics import BUILT_IN, Constants, affine, load_fabric
from campaign.results.projection.messages import RefusedError
from campaign.results.projection.networks import OfFabric

NAMES = sorted(yaml.safe_load(BUILT_IN.read_text())["fabrics"])
CONSTANTS = Constants(0.0, 1e-6, 1e-10, 0.0, 0.0, 0.0)
RANGE = {"low": 1, "high": 2, "source": "x"}


def written(folder: Path, **changes: object) -> Path:
    path = folder / "fabrics.yaml"
    fabric = {"title": "t", "latency_us": RANGE, "gigabytes_per_second": RANGE} | changes
    path.write_text(yaml.safe_dump({"fabrics": {"mine": fabric}}))
    return path


@pytest.mark.parametrize("name", NAMES)
def test_every_preset_is_read_and_its_ends_are_ends(name: str) -> None:
    fabric = load_fabric(name)
    assert fabric.best.latency <= fabric.middle.latency <= fabric.worst.latency
    assert fabric.best.per_byte <= fabric.middle.per_byte <= fabric.worst.per_byte
    ways = fabric.messages(512, 1)
    assert ways.best is not None
    assert ways.worst is not None
    for size in (8, 2**20, 2**30):
        best, middle, worst = (sum(each.cost(size)) for each in (ways.best, ways.middle, ways.worst))
        assert 0 < best <= middle * (1 + 1e-12)
        assert middle <= worst * (1 + 1e-12)


def test_the_named_ones_are_there() -> None:
    assert {"aries", "slingshot-11", "infiniband-edr", "infiniband-hdr", "nvlink-infiniband"} <= set(NAMES)
    assert {f"ethernet-{speed}g" for speed in (1, 10, 25, 100)} <= set(NAMES)


@given(st.integers(2, 14), st.floats(1, 1e9))
def test_allreduces_by_hand(power: int, size: float) -> None:
    nodes = 2**power
    ways = dict(zip(CONSTANTS.costs(1), affine(CONSTANTS, nodes, 1).ways, strict=True))
    share = 2 * (nodes - 1) / nodes
    for name, steps, travelled in (
        ("recursive doubling, by level", power, power),
        ("ring, by level", 2 * (nodes - 1), share),
        ("Rabenseifner, by level", 2 * power, share),
        ("ring of nodes", 2 * (nodes - 1), share),
        ("tree of nodes", 2 * power, 2),
    ):
        assert ways[name] == pytest.approx((steps * 1e-6, travelled * 1e-10), rel=1e-5)
    found = affine(CONSTANTS, nodes, 1).cost(size)
    assert sum(found) == pytest.approx(min(a + b * size for a, b in ways.values()))


def test_ranks_of_a_node_share_its_links_but_in_a_hierarchy() -> None:
    constants = Constants(0.0, 0.0, 1e-10, 0.0, 0.0, 0.0)
    ways = dict(zip(constants.costs(4), affine(constants, 2, 4).ways, strict=True))
    assert ways["recursive doubling, by level"][1] == pytest.approx(4e-10)
    assert ways["ring of nodes"][1] == pytest.approx(1e-10)


def test_a_link_of_twice_the_bandwidth_halves_what_bytes_take() -> None:
    fabric = load_fabric("ethernet-1g")
    plain, fast = (each.messages(2, 1).middle.cost(1e9) for each in (fabric, fabric.faster(bandwidth=2)))
    assert fast.bandwidth < plain.bandwidth
    assert fast.latency == plain.latency
    plain, near = (each.messages(2, 1).middle.cost(0) for each in (fabric, fabric.faster(latency=0.5)))
    assert near.latency == pytest.approx(plain.latency / 2)


def test_what_a_fabric_does_not_say_of_nodes_is_refused(tmp_path: Path) -> None:
    mine = OfFabric(load_fabric("mine", written(tmp_path)))
    assert mine(2, 1)
    with pytest.raises(RefusedError, match="says nothing of ranks of one node, and there are 8"):
        mine(2, 8)
    within = {"within_latency_us": RANGE, "within_gigabytes_per_second": RANGE}
    assert OfFabric(load_fabric("mine", written(tmp_path, **within)))(2, 8)


@pytest.mark.parametrize("name", NAMES)
def test_several_ranks_of_a_node_take_longer_than_one(name: str) -> None:
    network = OfFabric(load_fabric(name))
    for size in (8, 2**26):
        assert sum(network(64, 8).middle.cost(size)) > sum(network(64, 1).middle.cost(size))


def test_an_unknown_name_is_told_with_the_file_and_the_nearest() -> None:
    with pytest.raises(UserError, match=r"--fabric: .*fabrics\.yaml has no 'ares', did you mean aries\?"):
        load_fabric("ares")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"latency_us": {"low": 0, "high": 1, "source": "x"}},
            r"fabrics\.mine\.latency_us\.low: 0 must be at least 1e-09",
        ),
        ({"latency_us": {"low": 1, "high": 2}}, r"fabrics\.mine\.latency_us\.source: missing"),
        ({"latency_us": {"low": 2, "high": 1, "source": "x"}}, r"latency_us: 2, .*, 1 are no low, value and high"),
        ({"latency_us": RANGE | {"value": 3}}, r"latency_us: 1, 3, 2 are no low, value and high in this order"),
        ({"latency_us": RANGE | {"high": float("inf")}}, r"latency_us\.high: \.inf is no finite number"),
        ({"latency": RANGE}, r"fabrics\.mine\.latency: unknown key, did you mean latency_us\?"),
        ({"links_per_node": 0}, r"links_per_node: 0 must be at least 1"),
    ],
)
def test_what_is_wrong_with_a_file_is_told_with_its_key(tmp_path: Path, changes: dict[str, object], words: str) -> None:
    path = written(tmp_path, **changes)
    with pytest.raises(UserError, match=words) as caught:
        load_fabric("mine", path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)
