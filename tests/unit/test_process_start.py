"""From when on a run's start-up counts: not while the script that becomes the program waits for its turn."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from bnn.commands.ranks import STARTED_AT, process_start
from bnn.errors import UserError

PRINTED = "from bnn.commands.ranks import process_start; print(repr(process_start()))"


def test_a_script_that_waited_and_becomes_the_program_says_when():
    script = f'sleep 1; export {STARTED_AT}=$(date +%s.%N); echo "${STARTED_AT}"; exec "$0" -c "$1"'
    done = subprocess.run(["bash", "-c", script, sys.executable, PRINTED], capture_output=True, text=True, check=True)
    said, found = map(float, done.stdout.split())
    assert found == said


@pytest.mark.parametrize("others", [-3600.0, 3600.0])
def test_what_another_process_said_counts_for_nothing(others: float):
    before = time.time()
    environment = {**os.environ, STARTED_AT: str(before + others)}
    found = float(subprocess.check_output([sys.executable, "-c", PRINTED], env=environment, text=True))
    assert before - 0.1 < found < time.time(), "a process's begin is told to 10 ms"


def test_what_is_no_time_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(STARTED_AT, "noon")
    with pytest.raises(UserError, match="BNN_STARTED_AT: 'noon' is no time"):
        process_start()
