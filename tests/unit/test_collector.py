"""Garbage is looked for seldom while a command starts, as often as ever once it works, and not at a process's end."""

import gc
import subprocess
import sys

from bnn.commands.collector import SELDOM, USUAL, as_usual, seldom

CODE = """
import gc, sys
from bnn import cli, engine
from bnn.commands import ranks
class One:
    rank, size = 0, 1
    def close(self): pass
def work(settings, engine):
    print(gc.get_threshold(), gc.get_freeze_count() > 10_000)
engine.start_engine = lambda settings: One()
@cli.cli.command()
def probe():
    ranks.with_engine(None, None, work)
sys.argv = ["bnn", "probe"]
before = gc.get_freeze_count()
print(gc.get_threshold(), before)
cli.main()
print(gc.get_freeze_count() > before)
"""


def test_a_command_starts_works_and_ends_so() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    assert done.stdout == f"{USUAL} 0\n{USUAL} True\nTrue\n"


def test_between_the_start_and_the_work_it_is_seldom() -> None:
    before = gc.get_threshold()
    try:
        with seldom():
            assert gc.get_threshold() == SELDOM
            as_usual()
            assert gc.get_threshold() == USUAL
            assert gc.get_freeze_count() > 0
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()
