"""docs/tour.md: its files are there, its counts are those of its lists, and a real step runs what it says."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from bnn import kernels

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "tour.md").read_text()
MOST = {"One training step": 12, "One cell, from config.yaml to the report": 14, "One pruning": 14}
BESIDE = "bnn/heartbeat.py"  # what a step on one rank runs and the list leaves out; the page says so


def walks() -> dict[str, tuple[int, list[tuple[int, str, str, str]]]]:
    """By title: the stated count, and the entries as (number, name shown, link, what to look for)."""
    found = {}
    for part in PAGE.split("\n## ")[1:]:
        title, count = re.fullmatch(r"(.*): (\d+) files", part.splitlines()[0]).groups()  # type: ignore[union-attr]
        entries = re.findall(r"^(\d+)\. \[(.+?)\]\((.+?)\): (.+)$", part, re.MULTILINE)
        found[title] = int(count), [(int(number), *rest) for number, *rest in entries]
    return found


@pytest.mark.parametrize("title", MOST)
def test_every_file_is_there_and_counted(title: str) -> None:
    count, entries = walks()[title]
    assert [number for number, *_ in entries] == list(range(1, count + 1))
    assert len({link for _, _, link, _ in entries}) == count <= MOST[title]
    for _, name, link, _ in entries:
        path = (ROOT / "docs" / link).resolve()
        assert path.is_file(), link
        assert path.relative_to(ROOT).as_posix() == name.replace("\\", "")


@pytest.mark.parametrize("title", MOST)
def test_a_name_to_look_for_is_in_its_file(title: str) -> None:
    for _, _, link, words in walks()[title][1]:
        if named := re.match(r"`(?:\w+\.)?(\w+)`", words):
            assert re.search(rf"\b{named[1]}\b", (ROOT / "docs" / link).read_text()), f"{link}: {named[1]}"


STEP = """
import json, sys
from bnn.cli import main

root, seen, starts = sys.argv.pop(1) + "/", set(), 0

def note(frame, event, _):
    global starts
    if event != "call":
        return
    code = frame.f_code
    if code.co_name == "start" and code.co_filename.endswith("training/recorder.py"):
        starts += 1
    if starts == 5:  # the fifth step, after whatever is done once and after the warm-up
        seen.update(one.f_code.co_filename for one in (frame, frame.f_back))

sys.setprofile(note)
try:
    main()
finally:
    sys.setprofile(None)
    print(json.dumps(sorted(path.removeprefix(root) for path in seen if path.startswith(root + "bnn/"))))
"""


def test_a_step_runs_the_code_of_the_list(tmp_path: Path) -> None:
    if not kernels.available():
        pytest.skip("the kernels are not built, or too narrow to be used here")
    command = "train --model resnet18 --width 0.0625 --dataset synthetic --engine single --threads 1 --batch-size 4"
    words = [
        *command.split(),
        "--max-steps",
        "7",
        "--warmup-steps",
        "2",
        "--evaluate",
        "none",
        "--save-posterior",
        "false",
    ]
    done = subprocess.run(
        [sys.executable, "-c", STEP, str(ROOT), *words, "--out", str(tmp_path / "out")],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.stdout, done.stderr
    run = set(json.loads(done.stdout.splitlines()[-1]))
    listed = {name.replace("\\", "") for _, name, _, _ in walks()["One training step"][1]}
    assert run == listed | {BESIDE}
