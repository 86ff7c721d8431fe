"""The fastest is not flattered by the rounds that picked it, and the accuracy it costs has a right interval."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from bnn.bench.implementations import BEST, BEST_OF, choose
from bnn.bench.session import Plan, Result, choosing_rounds, resolve_best
from bnn.pruning import speed
from bnn.pruning.evaluate import accuracy_loss
from bnn.records.bench import WorkerFacts

IMAGES = torch.zeros(2, 1, 1, 1)


def timed(monkeypatch: pytest.MonkeyPatch, seconds: dict[str, float], noise: float, seed: int) -> tuple[Any, list[str]]:
    """A measurement with a clock that draws each turn's seconds, and the turns that it took after the warm-up."""
    random, turns = np.random.default_rng(seed), []

    def turn(predictor: Any, images: torch.Tensor, draws: int) -> float:
        turns.append(predictor)
        return seconds[predictor] * math.exp(noise * random.standard_normal())

    monkeypatch.setattr(speed, "turn", turn)
    found = speed.measure({name: name for name in seconds}, IMAGES, seed)  # type: ignore[misc]
    return found, turns[2 + len(seconds) :]


def test_of_forms_alike_the_fastest_is_no_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    alike = dict.fromkeys((speed.UNPRUNED, "dense", "csr", "compact", "compact-csr"), 1.0)
    runs = [timed(monkeypatch, alike, 0.1, seed)[0] for seed in range(600)]
    logs = np.log([run.speedup.value for run in runs])
    assert abs(logs.mean()) < 4 * logs.std() / math.sqrt(len(logs)) < 0.02
    assert np.mean([run.speedup.low <= 1 <= run.speedup.high for run in runs]) >= 0.93
    assert len({run.fastest for run in runs}) == 4


def test_the_fastest_is_found_and_only_it_is_timed_beside_the_unpruned_one(monkeypatch: pytest.MonkeyPatch) -> None:
    forms = {speed.UNPRUNED: 3.0, "dense": 3.0, "csr": 2.0, "compact": 1.0, "compact-csr": 1.5}
    found, turns = timed(monkeypatch, forms, 0.0, 1)
    assert (found.fastest, found.seconds) == ("compact", forms)
    assert found.speedup.value == pytest.approx(3.0)
    choosing = 4 * speed.ROUNDS_CHOOSE
    assert speed.UNPRUNED not in turns[:choosing]
    assert set(turns[choosing:]) == {speed.UNPRUNED, "compact"}
    assert len(turns) == choosing + 2 * speed.ROUNDS


@pytest.mark.parametrize("forms", [("dense",), ("dense", "csr"), ("dense", "csr", "compact", "compact-csr")])
def test_choosing_apart_takes_no_more_turns_than_timing_all(
    monkeypatch: pytest.MonkeyPatch, forms: tuple[str, ...]
) -> None:
    _, turns = timed(monkeypatch, dict.fromkeys((speed.UNPRUNED, *forms), 1.0), 0.0, 1)
    assert len(turns) <= speed.ROUNDS * (1 + len(forms))


def best_of(rounds: int, random: np.random.Generator, names: tuple[str, ...] = BEST_OF) -> Result:
    plan = Plan("step", choose("step", [BEST], []), "fc", 1.0, (1, 28, 28), 10, 4, 1, rounds, 1, 1, 0)
    facts = WorkerFacts(resolved="", parameters_total=1, versions={})
    result = Result(workers=dict.fromkeys(names, facts))
    for number in range(rounds):
        result.rows += [
            {"implementation": name, "round": number, "seconds": math.exp(0.1 * random.standard_normal())}
            for name in names
        ]
    resolve_best(plan, result)
    return result


def test_cnn_best_is_timed_on_other_rounds_than_those_that_chose_it() -> None:
    random = np.random.default_rng(0)
    results = [best_of(6, random) for _ in range(2000)]
    mine = [[row for row in result.rows if row["implementation"] == BEST] for result in results]
    assert {tuple(row["round"] for row in rows) for rows in mine} == {(2, 3, 4, 5)}
    logs = np.array([[math.log(row["seconds"]) for row in rows] for rows in mine])
    assert abs(logs.mean()) < 4 * 0.1 / math.sqrt(logs.size)
    assert results[0].workers[BEST].notes[0].endswith("chosen on the first 2 of 6 rounds and timed on the others")


def test_where_nothing_could_be_chosen_apart_it_is_said() -> None:
    random = np.random.default_rng(0)
    assert [choosing_rounds(rounds) for rounds in (1, 2, 3, 6, 9)] == [0, 1, 1, 2, 3]
    assert "its time is flattered" in best_of(1, random).workers[BEST].notes[0]
    alone = best_of(6, random, BEST_OF[1:])
    assert alone.workers[BEST].notes == ["cnn-kernels, the only candidate that could be measured"]


def pair(lost: int, won: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    before, after = np.zeros(count, bool), np.zeros(count, bool)
    before[:lost], after[lost : lost + won] = True, True
    return before, after


def test_loss_of_accuracy_by_hand() -> None:
    loss, low, high = accuracy_loss(*pair(3, 1, 98))
    half = 1.959964 * math.sqrt((0.06 - 0.02**2) / 100)
    assert (loss, low, high) == pytest.approx((200 / 98, 100 * (0.02 - half), 100 * (0.02 + half)))
    assert accuracy_loss(*pair(10, 0, 10)) == pytest.approx((100, 100 * (10 / 12 - 0.3126), 100), abs=2)
    none = accuracy_loss(*pair(0, 0, 1000))
    assert none == pytest.approx((0, -0.2766, 0.2766), abs=1e-3)


@pytest.mark.parametrize(("lost", "won"), [(1, 0), (2, 0), (3, 1), (10, 0), (10, 5), (100, 30)])
@pytest.mark.parametrize("count", [1000, 10_000])
def test_the_interval_of_a_loss_holds_it(lost: int, won: int, count: int) -> None:
    random, inside = np.random.default_rng(1), 0
    for a, b, _ in random.multinomial(count, [lost / count, won / count, 1 - (lost + won) / count], 1000):
        _, low, high = accuracy_loss(*pair(a, b, count))
        inside += low <= 100 * (lost - won) / count <= high
    assert inside >= 930
