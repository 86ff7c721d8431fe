"""What is read of a rule: the script, its place, its log, its one output; all else is refused."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from snakemake_executor_plugin_batch_script.request import Request, RequestError, place_of


@dataclass
class Job:
    """As much of Snakemake's job as the interface has."""

    resources: dict[str, object]
    output: list[str] = field(default_factory=lambda: ["a.out"])
    log: list[str] = field(default_factory=list)
    is_containerized: bool = False
    benchmark: str | None = None

    def is_group(self) -> bool:
        return False


def test_paths_are_absolute_and_links_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    monkeypatch.chdir(tmp_path)
    found = Request.of(Job({"batch_script": "link/a.sh", "batch_order": 3}, log=["logs/a", "logs/b"]))
    assert found == Request(tmp_path / "link/a.sh", tmp_path / "a.out", 3.0, tmp_path / "logs/a")
    assert Request.of(Job({"batch_script": "a.sh", "nodes": 2})).order is None


@pytest.mark.parametrize(
    ("job", "words"),
    [
        (Job({"batch_script": "a.sh"}, is_containerized=True), "a container is not used"),
        (Job({"batch_script": "a.sh"}, benchmark="b"), "benchmark: a script that is submitted is not measured"),
        (Job({"batch_script": 3}), "no resource batch_script"),
        (Job({}), "no resource batch_script"),
        (Job({"batch_script": "a.sh"}, output=["a", "b"]), "exactly one output"),
        (Job({"batch_script": "a.sh"}, output=[]), "exactly one output"),
        (Job({"batch_script": "a.sh", "batch_order": "1"}), "batch_order: '1' is no number"),
        (Job({"batch_script": "a.sh", "batch_order": True}), "batch_order: True is no number"),
        (Job({"batch_script": "a.sh", "batch_digest": 7}), "batch_digest: 7 is no text"),
    ],
)
def test_what_cannot_be_done_is_refused(job: Job, words: str) -> None:
    with pytest.raises(RequestError, match=words):
        Request.of(job)  # type: ignore[arg-type]


def test_jobs_stand_in_their_order_those_without_one_last() -> None:
    orders = [3, None, 1.5, "x", True, 0, float("nan")]
    jobs = [Job({"batch_script": f"{number}.sh", "batch_order": order}) for number, order in enumerate(orders)]
    ready = sorted(jobs, key=place_of)  # type: ignore[arg-type]
    assert [job.resources["batch_script"] for job in ready] == [f"{at}.sh" for at in (5, 2, 0, 1, 3, 4, 6)]
