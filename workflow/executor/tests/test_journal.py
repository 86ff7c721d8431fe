"""The journal and the table at the end."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from snakemake_executor_plugin_batch_script.closing import ALL_UP_TO, closing_table, duration
from snakemake_executor_plugin_batch_script.journal import Journal, Journals
from snakemake_executor_plugin_batch_script.task import Result, job_name


def test_events_come_back(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j")
    assert list(journal.events()) == []
    journal.write("submitted", script=tmp_path / "a.sh", name="c-1", job="7", attempt=1, outcome=None)
    (event,) = journal.events()
    assert event["time"][10] == "T"
    assert event["time"][-6] in "+-"  # with its zone
    del event["time"]
    assert event == {
        "event": "submitted", "script": str(tmp_path / "a.sh"), "name": "c-1", "job": "7", "attempt": 1
    }  # fmt: skip


def test_torn_and_strange_lines(tmp_path: Path) -> None:
    path = tmp_path / "j"
    journal = Journal(path)
    journal.write("submitted", name="c-1", job="7")
    whole = path.read_bytes()
    for cut in range(1, len(whole)):
        path.write_bytes(whole + b'[1]\nnull\n{"event": 3}\n\xff\xfe\n' + whole[:-cut])
        journal.write("running", name="c-1", job="8")
        events = [event["event"] for event in journal.events()]
        assert events[0] == "submitted"
        assert events[-1] == "running"  # whatever was torn before it
        assert len(events) == 2 + (cut == 1)


def test_many_writers(tmp_path: Path) -> None:
    path = tmp_path / "j"
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: Journal(path).write("running", name=f"c-{i}", detail="x" * 5000), range(40)))
    assert {json.loads(line)["name"] for line in path.read_text().splitlines()} == {f"c-{i}" for i in range(40)}


def test_what_a_journal_knows_of_the_past(tmp_path: Path) -> None:
    journals = Journals()
    script = tmp_path / "a.sh"
    journal = journals.of(script)
    assert journal.path == tmp_path / ".journal.jsonl"
    for event, name, job in [
        ("submitting", "ended", None), ("submitted", "ended", "1"), ("ended", "ended", "1"),
        ("submitting", "live", None), ("submitted", "live", "2"), ("running", "live", "2"),
        ("submitting", "torn", None), ("submitted", "gone", "3"), ("cancelled", "gone", "3"),
        ("ended", "again", "4"), ("retry", "again", None), ("refused", "refused", None), ("unreachable", None, None),
    ]:  # fmt: skip
        journal.write(event, name=name, job=job)
    past = Journals().past(script)
    assert past.may_live == {"live": "2", "torn": None}
    assert past.cancelled == {"3"}
    assert Journals(tmp_path / "other").past(script).may_live == {}


def test_names_are_of_absolute_paths(tmp_path: Path) -> None:
    name = job_name(tmp_path / "a.sh")
    assert name.startswith("c-")
    assert len(name) == 14
    assert name == job_name(tmp_path / "b" / ".." / "a.sh")
    assert name != job_name(tmp_path / "b.sh")


def result(i: int, reason: str = "done", **more: object) -> Result:
    return Result(Path(f"/jobs/cell{i}.sh"), reason, 1, str(i), **more)  # type: ignore[arg-type]


def test_closing_table() -> None:
    assert closing_table([]) == ""
    failed = result(2, "failed", exit_code=3, detail="exit code 3", log=Path("/jobs/cell2.log"), queued=3.4, run=3725)
    text = closing_table([result(1, queued=5, run=60), failed])
    assert "Jobs: 1 done, 1 failed; 0 submitted again; ran 1:03:05 in all" in text
    assert "cell2 (job 2) failed: exit code 3; log: /jobs/cell2.log" in text
    assert [line.split() for line in text.splitlines()[2:4]] == [
        ["cell1", "1", "done", "1", "0:00:05", "0:01:00"], ["cell2", "2", "failed", "1", "0:00:03", "1:02:05"]
    ]  # fmt: skip


def test_of_many_jobs_the_table_lists_failures() -> None:
    text = closing_table([*(result(i) for i in range(ALL_UP_TO)), result(99, "refused", detail="Unknown queue")])
    assert "40 done, 1 refused" in text
    assert "cell99" in text
    assert "cell1 " not in text
    assert closing_table([result(i) for i in range(ALL_UP_TO + 1)]).splitlines()[0].startswith("Jobs: 41 done")


def test_duration() -> None:
    assert [duration(seconds) for seconds in (None, 0, 59.6, 90_061)] == ["-", "0:00:00", "0:01:00", "25:01:01"]
