"""Published networks, and some that people write themselves, through every command: right, or refused in one line."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from concurrent.futures import Future

import pytest

from tests.architectures import packages
from tests.architectures.refusals import REFUSALS
from tests.architectures.run import Outcomes, pool, submitted
from tests.architectures.stages import REFUSED, STAGES, WORKS
from tests.architectures.table import ARCHITECTURES

# Of the published ones, those that take seconds and have what others are made of.
QUICK = ("torchvision squeezenet1_1", "torchvision vit_b_16", "timm convnext_atto", "timm mobilenetv3_small_050")
# Every stage but pruning by unit, which some networks have no unit for.
WHOLE = [stage for stage in STAGES if stage != "by unit"]


@pytest.fixture(scope="module")
def results(request: pytest.FixtureRequest) -> Iterator[dict[str, Future[Outcomes]]]:
    """The outcomes of all architectures that are asked for, as they come: they are computed side by side."""
    try:
        packages.use()
    except RuntimeError as error:
        pytest.skip(str(error))
    names = [item.callspec.params["name"] for item in request.session.items if is_ours(item, request)]
    with pool() as executor:
        yield submitted(dict.fromkeys(names), executor)
        executor.shutdown(cancel_futures=True)


def is_ours(item: pytest.Item, request: pytest.FixtureRequest) -> bool:
    return item.path == request.path and "name" in getattr(getattr(item, "callspec", None), "params", {})


def asked_for() -> list[str]:
    """All architectures with ARCHITECTURES=all (ten minutes on two cores), else the quick ones among them."""
    if os.environ.get("ARCHITECTURES") == "all":
        return list(ARCHITECTURES)
    return [name for name in ARCHITECTURES if name in QUICK or not name.startswith(("torchvision ", "timm "))]


@pytest.mark.slow
@pytest.mark.parametrize("name", asked_for())
def test_every_stage_is_right_or_refused_as_known(name: str, results: dict[str, Future[Outcomes]]) -> None:
    known = REFUSALS.get(name, {})
    for one in results[name].result():
        stage, said = one["stage"], f"{one['stage']}: {one['result']}: {one['detail']}"
        if stage in known:
            assert one["result"] == REFUSED, f"listed as refused, yet {said}"
            assert re.search(known[stage], one["detail"]), said
            continue
        later = any(STAGES[stage][1] and need in known for need in needs(stage))
        assert one["result"] == WORKS or later, said


def needs(stage: str) -> set[str]:
    """The stages without which this one is not reached."""
    direct = set(STAGES[stage][1])
    return direct.union(*(needs(one) for one in direct))


def test_most_architectures_work_throughout() -> None:
    """What `REFUSALS` may hold at most."""
    assert len(ARCHITECTURES) >= 51
    throughout = [name for name in ARCHITECTURES if not {*WHOLE} & {*REFUSALS.get(name, {})}]
    assert len(throughout) >= len(ARCHITECTURES) - 3
    by_unit = [name for name in throughout if "by unit" not in REFUSALS.get(name, {})]
    assert len(by_unit) >= 35
    assert {*REFUSALS, *QUICK} <= {*ARCHITECTURES}
