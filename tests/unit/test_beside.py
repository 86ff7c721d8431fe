"""Work in a process of its own: done when the block ends, its errors are the block's."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from bnn.errors import UserError
from campaign.io.beside import beside


def failing(error: Exception) -> Callable[[], None]:
    def work() -> None:
        raise error

    return work


@pytest.mark.parametrize("worth_it", [True, False])
def test_what_was_done_beside_is_there_when_the_block_ends(tmp_path: Path, worth_it: bool) -> None:
    def work() -> None:
        time.sleep(0.2)
        (tmp_path / "x").write_text(str(os.getpid()))

    with beside(work, worth_it):
        assert (tmp_path / "x").exists() != worth_it
    is_another = (tmp_path / "x").read_text() != str(os.getpid())
    assert is_another == (worth_it and len(os.sched_getaffinity(0)) > 1)


@pytest.mark.parametrize("worth_it", [True, False])
def test_its_error_is_the_blocks(worth_it: bool) -> None:
    with (
        pytest.raises(UserError, match=r"^x\.svg: no picture$"),
        beside(failing(UserError("x.svg: no picture")), worth_it),
    ):
        pass


def test_a_bug_in_it_is_no_silence() -> None:
    with pytest.raises((RuntimeError, ZeroDivisionError)), beside(failing(ZeroDivisionError())):
        pass


def test_an_error_of_the_block_ends_it(tmp_path: Path) -> None:
    def work() -> None:
        time.sleep(30)
        (tmp_path / "x").touch()

    start = time.monotonic()
    with pytest.raises(KeyError), beside(work, len(os.sched_getaffinity(0)) > 1 or pytest.skip("one core")):
        raise KeyError
    assert time.monotonic() - start < 20
    assert not (tmp_path / "x").exists()
