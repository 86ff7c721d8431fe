"""What the tests of a driver and of a scheduler's limits share: pytest_plugins = ["tests.support.faulty_campaigns"]."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.faults import Faulty

both = pytest.mark.parametrize("kind", ["cobalt", "pbs"])
Start = Callable[..., Faulty]


@pytest.fixture
def campaign(tmp_path: Path) -> Iterator[Start]:
    """Starts small campaigns on an emulated scheduler of a kind; they are ended with the test."""
    made = []

    def start(kind: str, **more: Any) -> Faulty:
        made.append(Faulty(tmp_path, kind, **more))
        return made[-1]

    yield start
    for faulty in made:
        faulty.close()


def once_each(faulty: Faulty) -> dict[str, int]:
    """How often each cell's script is to have been run."""
    return dict.fromkeys(faulty.names, 1)
