"""Garbage is looked for seldom while a command starts, as often as ever once it works, and not at a process's end."""

import subprocess
import sys

from bnn.commands.collector import SELDOM, USUAL

CODE = """
import atexit, gc, sys
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
    print(gc.get_threshold(), gc.get_freeze_count())
    ranks.with_engine(None, None, work)
sys.argv = ["bnn", "probe"]
# (what is registered first is called last)
atexit.register(lambda: print(not gc.get_objects()))
cli.main()
"""


def test_a_command_starts_works_and_ends_so() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    assert done.stdout == f"{SELDOM} 0\n{USUAL} True\nTrue\n"


def test_importing_the_commands_changes_nothing() -> None:
    code = "import gc; before = gc.get_threshold(); import bnn.cli; print(gc.get_threshold() == before)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"
