"""PBS's listings, damaged by what others put into their jobs: ours are found, or the listing is no answer."""

from __future__ import annotations

import json
import os
import stat
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from snakemake_executor_plugin_batch_script.schedulers import pbs
from snakemake_executor_plugin_batch_script.schedulers.base import UNKNOWN, Live, State, UnreachableError
from snakemake_executor_plugin_batch_script.schedulers.commands import Answer, user

ME, NAME = "me", "c-0123456789ab"
MARKS = ("me@", '"901.pbs"')
FAKE = f'"}},"901.pbs":{{"Job_Name":"{NAME}","Job_Owner":"me@l","job_state":"H"}},"x":{{"y":"'
GARBAGE = st.one_of(
    st.text(st.characters(codec="utf-8", exclude_characters="\n"), max_size=30),
    st.sampled_from([r"\h \w> ", r"\$HOME", r"\u@"]),
    st.sampled_from(['say "hi" there', '"', "\\", "}}", "\x01\x1b[0m", FAKE, '"901.pbs":{']),
)  # fmt: skip
BARE = st.sampled_from([".5", "inf", "NaN", "007", "-.1", "1.", "nan", "0x1p3", "true"])
VALUES = st.one_of(GARBAGE.map(lambda text: f'"{text}"'), BARE)


def lines(job: str, attributes: dict[str, Any], step: str, colon: str) -> str:
    """A job as the old printer has it (values are given as they are printed)."""
    body = []
    for key, value in attributes.items():
        if isinstance(value, dict):
            inner = ",\n".join(f'{step * 4}"{name}"{colon}{text}' for name, text in value.items())
            body.append(f'{step * 3}"{key}"{colon}{{\n{inner}\n{step * 3}}}')
        else:
            body.append(f'{step * 3}"{key}"{colon}{value}')
    return f'{step * 2}"{job}"{colon}{{\n' + ",\n".join(body) + f"\n{step * 2}}}"


def listing(jobs: list[str], step: str, colon: str) -> str:
    head = f'{{\n{step}"timestamp"{colon}1700000000,\n{step}"pbs_server"{colon}"pbs",\n{step}"Jobs"{colon}{{\n'
    return head + ",\n".join(jobs) + f"\n{step}}}\n}}\n"


OURS = {"Job_Name": f'"{NAME}"', "Job_Owner": '"me@login1"', "resources_used": {"walltime": '"00:01:00"'},
        "job_state": '"R"', "Variable_List": {"PS1": r'"\h \w> "', "Q": '"a"b"'}}  # fmt: skip
FOREIGN = st.builds(
    lambda name, comment, env: {"Job_Name": name, "Job_Owner": '"other@login2"', "job_state": '"Q"', "comment": comment,
                                "Variable_List": {"A": env, "B": comment}},
    VALUES, VALUES, VALUES,
)  # fmt: skip
STYLES = st.sampled_from([("    ", ":"), ("    ", ": "), ("\t", ":\t"), (" ", ":")])


def found(text: str) -> list[tuple[str, State]]:
    told = pbs.parse_live(pbs.records(Answer("qstat", 0, text, ""), MARKS), ME)
    return [(live.job, live.state) for live in told]


@given(st.lists(FOREIGN, max_size=3), st.lists(FOREIGN, max_size=3), STYLES)
@settings(max_examples=300, deadline=None)
def test_ours_are_found_between_any_garbage(before: list[Any], after: list[Any], style: tuple[str, str]) -> None:
    jobs = [lines(f"{i}.pbs", job, *style) for i, job in enumerate(before, 10)]
    jobs += [lines("901.pbs", OURS, *style)]
    jobs += [lines(f"{i}.pbs", job, *style) for i, job in enumerate(after, 950)]
    assert found(listing(jobs, *style)) == [("901.pbs", State.RUNNING)]


@given(st.lists(FOREIGN, max_size=2), STYLES)
@settings(max_examples=200, deadline=None)
def test_none_is_made_up(foreign: list[Any], style: tuple[str, str]) -> None:
    jobs = [lines(f"{i}.pbs", job, *style) for i, job in enumerate(foreign, 10)]
    try:
        assert found(listing(jobs, *style)) == []
    except UnreachableError:
        assert not jobs or "901.pbs" in jobs[0] + jobs[-1]


@given(st.lists(FOREIGN, min_size=1, max_size=3), st.integers(0, 3))
@settings(max_examples=300, deadline=None)
def test_in_one_line_they_are_found_or_there_is_no_answer(foreign: list[Any], place: int) -> None:
    def flat(attributes: dict[str, Any]) -> str:
        return ",".join(
            f'"{key}":{{{flat(value)}}}' if isinstance(value, dict) else f'"{key}":{value}'
            for key, value in attributes.items()
        )

    jobs = [f'"{i}.pbs":{{{flat(job)}}}' for i, job in enumerate(foreign, 10)]
    jobs.insert(place, f'"901.pbs":{{{flat({**OURS, "Variable_List": {}})}}}')
    try:
        states = found('{"timestamp":1,"Jobs":{' + ",".join(jobs) + "}}")
    except UnreachableError:
        return
    assert ("901.pbs", State.RUNNING) in states


def whole() -> str:
    foreign = {"Job_Name": '"x"', "Job_Owner": '"other@l"', "job_state": '"Q"', "comment": '"say "x" \\$HOME"'}
    jobs = [lines("900.pbs", foreign, "    ", ":"), lines("901.pbs", OURS, "    ", ":"),
            lines("902.pbs", foreign, "    ", ":")]  # fmt: skip
    return listing(jobs, "    ", ":")


def test_cut_at_every_byte_it_is_no_answer() -> None:
    text = whole()
    for end in range(len(text.rstrip()) - 1):
        with pytest.raises(UnreachableError):
            pbs.records(Answer("qstat", 0, text[:end], ""), MARKS)
    assert found(text) == [("901.pbs", State.RUNNING)]


@given(st.data())
@settings(max_examples=500, deadline=None)
def test_any_bytes_of_others_may_be_wrong(data: st.DataObject) -> None:
    text = bytearray(whole().encode())
    begin, end = text.index(b'"901.pbs"'), text.index(b'"902.pbs"')
    first, ours_end = text.index(b'"900.pbs"'), text.index(b"        }", begin) + 9
    places = st.one_of(st.integers(first, begin - 1), st.integers(end, len(text) - 20))
    for place in data.draw(st.lists(places, min_size=1, max_size=5)):
        assert not begin <= place < ours_end
        text[place] = data.draw(st.integers(0, 255))
    try:
        states = found(bytes(text).decode(errors="replace"))
    except UnreachableError:
        return
    assert ("901.pbs", State.RUNNING) in states


@given(STYLES, st.sampled_from(["", "\n", " \n"]))
def test_an_empty_list_of_jobs_is_an_answer_once_it_is_closed(style: tuple[str, str], gap: str) -> None:
    text = listing([gap], *style)
    assert found(text) == []
    for end in range(len(text.rstrip()) - 1):
        with pytest.raises(UnreachableError):
            found(text[:end])


def test_two_objects_of_jobs() -> None:
    record = {"Job_Name": NAME, "Job_Owner": "me@l", "job_state": "R"}
    one, two = json.dumps({"1.pbs": record}), json.dumps({"901.pbs": record})
    assert [job for job, _ in found(f'{{"Jobs":{one},"Jobs":{two}}}')] == ["1.pbs", "901.pbs"]
    # as PBS Pro up to 18.1.2 has it: one inside the other, never closed
    text = (
        '{\n    "timestamp":1,\n    "Jobs":{\n'
        + lines("1.pbs", OURS, "    ", ":")
        + ',\n        "Jobs":{\n'
        + lines("901.pbs", OURS, "    ", ":").replace("\n", "\n    ").replace('        "901', '            "901')
        + "\n        }\n    }\n}\n"
    )
    assert [job for job, _ in found(text)] == ["1.pbs", "901.pbs"]


def test_contradictions_are_no_answer() -> None:
    ours, other = lines("901.pbs", OURS, "    ", ":"), lines("901.pbs", {**OURS, "job_state": '"F"'}, "    ", ":")
    with pytest.raises(UnreachableError):
        found(listing([ours, other], "    ", ":"))
    with pytest.raises(UnreachableError):
        found(listing([lines("901.pbs", {**OURS, "job_state": '"R'}, "    ", ":")], "    ", ":"))


def test_a_listing_of_ten_thousand_jobs_is_read_in_linear_time() -> None:
    def seconds(count: int) -> float:
        env = {f"V{i}": '"some value \\$HOME"' for i in range(20)}
        foreign = {"Job_Name": '"x"', "Job_Owner": '"other@l"', "job_state": '"Q"', "Variable_List": env}
        jobs = [lines(f"{i}.pbs", foreign, "    ", ":") for i in range(1000, 1000 + count)]
        text = listing([*jobs, lines("901.pbs", OURS, "    ", ":")], "    ", ":")
        begin = time.process_time()
        assert found(text) == [("901.pbs", State.RUNNING)]
        return time.process_time() - begin

    assert seconds(10_000) < 40 * seconds(1000) + 0.5


def programs(folder: Path, **scripts: str) -> None:
    for name, text in scripts.items():
        path = folder / name
        path.write_text(f"#!/bin/bash\n{text}\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return tmp_path


def text_of(**jobs: dict[str, str]) -> str:
    return json.dumps({"Jobs": {f"{key[1:]}.pbs": {"Job_Owner": f"{user()}@l", **job} for key, job in jobs.items()}})


def test_only_our_own_jobs_are_asked_for(folder: Path) -> None:
    (folder / "json").write_text(text_of(j5={"Job_Name": NAME, "job_state": "R"}))
    programs(folder, qselect='[[ $* == "-u "* ]] && echo 5.pbs || exit 2',
             qstat=f'echo "$*" >> {folder}/asked; cat {folder}/json')  # fmt: skip
    assert pbs.Pbs().live([], names=True) == [Live("5.pbs", NAME, State.RUNNING, "")]
    assert (folder / "asked").read_text() == "-f -F json 5.pbs\n"
    programs(folder, qselect="exit 0")
    assert pbs.Pbs().live([], names=True) == []
    programs(folder, qselect="echo 'Connection refused' >&2; exit 111")
    with pytest.raises(UnreachableError):
        pbs.Pbs().live([], names=True)


def test_of_several_only_the_first_is_printed(folder: Path) -> None:
    (folder / "first").write_text(text_of(j5={"Job_Name": NAME, "job_state": "R"}))
    both = {"j5": {"Job_Name": NAME, "job_state": "R"}, "j6": {"Job_Name": "c-1123456789ab", "job_state": "Q"}}
    (folder / "all").write_text(text_of(**both))
    programs(folder, qstat=f"[[ $* == *5.pbs* ]] && cat {folder}/first || cat {folder}/all")
    assert [live.job for live in pbs.Pbs().live(["5.pbs", "6.pbs"], names=False)] == ["5.pbs", "6.pbs"]


def test_a_moved_job_is_followed(folder: Path) -> None:
    moved = {
        "Job_Name": NAME,
        "job_state": "M",
        "queue": "workq@other",
        "comment": 'Job has been moved to "workq@other"',
    }
    (folder / "moved").write_text(text_of(j5=moved))
    (folder / "there").write_text(text_of(j5={"Job_Name": NAME, "job_state": "R"}))
    programs(folder, qstat=f"[[ $* == *@other ]] && cat {folder}/there || cat {folder}/moved")
    scheduler = pbs.Pbs()
    assert scheduler.ended({"5.pbs": folder / "x.sh"}) == {"5.pbs": Live("5.pbs", NAME, State.RUNNING, "")}
    assert scheduler.live(["5.pbs"], names=False) == [Live("5.pbs", NAME, State.RUNNING, "")]
    programs(folder, qdel=f'echo "$*" > {folder}/deleted')
    scheduler.cancel(["5.pbs"])
    assert (folder / "deleted").read_text() == "5.pbs@other\n"


@pytest.mark.parametrize("other", ["cat moved", "echo 'cannot connect to server other' >&2; exit 111"])
def test_a_moved_job_whose_server_is_silent_counts_as_there(folder: Path, other: str) -> None:
    case = {"Job_Name": NAME, "job_state": "M", "comment": 'Job has been moved to "workq@other"'}
    (folder / "moved").write_text(text_of(j5=case))
    programs(folder, qstat=f"cd {folder}; [[ $* == *@other ]] && {{ {other}; exit; }}; cat moved")
    told = pbs.Pbs().ended({"5.pbs": folder / "x.sh"})["5.pbs"]
    assert isinstance(told, Live)
    assert (told.state, "moved to workq@other" in told.reason) == (State.HELD, True)


def test_a_moved_job_whose_server_is_silent_keeps_no_other_waiting(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr(pbs.time, "monotonic", lambda: now)
    case = {"Job_Name": NAME, "job_state": "M", "comment": 'Job has been moved to "workq@other"'}
    other = {"Job_Name": "c-1123456789ab", "job_state": "R"}
    (folder / "moved").write_text(text_of(j5=case))
    (folder / "here").write_text(text_of(j6=other))
    silent = f"echo >> {folder}/asked; echo 'cannot connect to server other' >&2; exit 111"
    programs(
        folder, qstat=f'case "$*" in *@other) {silent};; *5.pbs*) cat {folder}/moved;; *) cat {folder}/here;; esac'
    )
    scheduler = pbs.Pbs()
    scheduler.ended({"5.pbs": folder / "x.sh"})
    for now in (3590.0, 3610.0, 7300.0, 90000.0):  # noqa: B007 (what the clock says)
        live = {each.job: each.state for each in scheduler.live(["5.pbs", "6.pbs"], names=False)}
        assert live == {"5.pbs": State.HELD, "6.pbs": State.RUNNING}
    assert len((folder / "asked").read_text().splitlines()) == 4  # 20 s after a silence it is not asked


@pytest.mark.parametrize("said", [{"substate": 92}, {"comment": "Job finished at other"}])
def test_a_moved_job_that_has_ended_there_is_gone(folder: Path, said: dict[str, object]) -> None:
    case = {"Job_Name": NAME, "job_state": "M", "queue": "workq@other", **said}
    (folder / "moved").write_text(text_of(j5=case))
    programs(folder, qstat=f"[[ $* == *@other ]] && exit 111; cat {folder}/moved")
    assert pbs.Pbs().ended({"5.pbs": folder / "x.sh"}) == {"5.pbs": UNKNOWN}


def test_a_moved_job_is_followed_when_it_is_moved_on_or_back(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(pbs.time, "monotonic", lambda: now)
    for queue in ("workq@b", "workq@c"):
        (folder / queue).write_text(text_of(j5={"Job_Name": NAME, "job_state": "M", "queue": queue}))
    (folder / "running").write_text(text_of(j5={"Job_Name": NAME, "job_state": "R"}))
    (folder / "home").write_text((folder / "workq@b").read_text())
    programs(
        folder,
        qstat=f'cd {folder}; case "$*" in *@b) cat workq@c;; *@c) cat running;; *) cat home;; esac',
        qselect="exit 0",
    )
    scheduler = pbs.Pbs()
    assert isinstance(scheduler.ended({"5.pbs": folder / "x.sh"})["5.pbs"], Live)
    (folder / "home").write_text((folder / "workq@c").read_text())
    now = 700.0
    scheduler.live(["5.pbs"], names=False)
    assert [each.state for each in scheduler.live(["5.pbs"], names=False)] == [State.RUNNING]
    (folder / "home").write_text(text_of(j5={"Job_Name": NAME, "job_state": "Q"}))
    programs(folder, qselect="[[ $* == *M* ]] || echo 5.pbs")
    assert [each.state for each in scheduler.live(["5.pbs"], names=True)] == [State.QUEUED]
