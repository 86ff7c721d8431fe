"""Some thousands of mutated posteriors, the same each time: loaded, or refused in one line, and nothing else."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from bnn.errors import UserError
from bnn.posterior import load_posterior
from bnn.records.files import GRAPH_FILE
from tests.fuzz.mutate import Files
from tests.fuzz.poison import CASES, VALUES, poisoned
from tests.fuzz.posteriors import fuzz, load
from tests.fuzz.seeds import posteriors
from tests.fuzz.watch import Watch


@pytest.fixture(scope="module")
def seeds(tmp_path_factory: pytest.TempPathFactory) -> list[Files]:
    return posteriors(tmp_path_factory.mktemp("seeds"))


def test_mutated_posteriors_are_loaded_or_refused(seeds: list[Files]) -> None:
    counts, faults = fuzz(seeds, 0, 3000, jobs=2)
    assert faults == []
    assert counts["loaded"] + counts["ran"] > 30  # else the mutations are too coarse to get far
    assert counts["refused"] > 1000


EVERY = 5  # of the cases in a run of the tests; python -m tests.fuzz.posteriors --poison tries all
assert math.gcd(EVERY, len(VALUES)) == 1  # so that each value is tried, with other arguments each


def sparse(number: int, seeds: list[Files]) -> Files:
    return poisoned(EVERY * number, seeds)


def test_every_argument_of_every_operation_may_be_anything(seeds: list[Files]) -> None:
    cases = len(CASES) // EVERY
    counts, faults = fuzz(seeds, 0, cases, jobs=2, make=sparse)
    assert faults == []
    assert counts["refused"] > cases / 2
    assert counts["ran"] > 30


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        ("aten.full.default", {"size": [10**12], "fill_value": 0}),
        ("aten.arange.default", {"end": 10**13}),
        ("aten.zeros.default", {"size": [1 << 20, 1 << 20]}),
        ("aten.repeat.default", {"self": {"node": "input"}, "repeats": [1, 10**6, 10**4, 10**4]}),
        ("aten.expand.default", {"self": {"node": "input"}, "size": [10**9, -1, -1, -1]}),
    ],
)
def test_what_a_graph_asks_for_is_refused_before_it_is_made(
    kind: str, arguments: dict[str, object], seeds: list[Files], tmp_path: Path
) -> None:
    graph = json.loads(seeds[0][GRAPH_FILE])
    first = graph["nodes"][0]["name"]
    arguments = {key: {"node": first} if value == {"node": "input"} else value for key, value in arguments.items()}
    inputs = [first] if any(value == {"node": first} for value in arguments.values()) else []
    node = {
        "name": "large",
        "op": "function",
        "type": kind,
        "arguments": arguments,
        "inputs": inputs,
        "output_shape": None,
    }
    graph["nodes"].insert(1, node)
    files = seeds[0] | {GRAPH_FILE: json.dumps(graph).encode()}
    result, fault = load(tmp_path, files, Watch())
    assert (result, fault) == ("refused", None)
    with pytest.raises(UserError, match=r"large|too many|must match"):
        load_posterior(tmp_path)


def test_the_watch_sees_what_it_must(tmp_path: Path) -> None:
    watch = Watch()
    with watch.over(tmp_path) as seen:
        compile("1", "text", "eval")
        Path("/etc/hostname").exists()
        with pytest.raises(OSError, match="nowhere"):
            open("/nowhere")  # noqa: PTH123, SIM115
    assert [event.split()[0] for event in seen] == ["compile", "open"]
    (tmp_path / "inside").write_text("x")
    with watch.over(tmp_path) as seen:
        (tmp_path / "inside").read_text()
    assert seen == []
