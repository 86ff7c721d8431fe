"""What `qstat -f -F json` prints, read record by record: whatever others put into theirs, ours are found or doubted.

PBS prints texts of users as they are. Up to 23.06 quotes and backslashes in values are not escaped (openpbs,
src/lib/Libcmds/pbs_json.c, JSON_ESCAPE) and what strtod() takes for a number is printed bare (`.5`, `inf`, `007`);
line feeds are escaped, so each attribute has a line of its own, indented by its depth. Up to 18.1.2 each of several
jobs came in another "Jobs" object inside the one before, which was not closed. Later versions use cJSON: strings are
right, but of several jobs asked for by id, only the first one may be printed (openpbs issue 2672).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

Record = dict[str, Any]

ID = r"\d+(?:\[\d*\])?(?:\.[\w.-]+)?"
NEEDED = ("Job_Name", "Job_Owner", "job_state")  # every record has them
JUDGED = (*NEEDED, "Exit_status", "substate", "ctime", "stime", "comment", "queue", "Resource_List", "resources_used")
INNER = ("Resource_List", "resources_used")
OPEN_LIST = re.compile(r'^([ \t]+)"Jobs"[ \t]*:[ \t]*\{[ \t]*\r?$', re.MULTILINE)
OPEN = re.compile(rf'^([ \t]+)"(?:(Jobs)|({ID}))"[ \t]*:[ \t]*\{{([^\n]*)$', re.MULTILINE)
ANY_OPEN = re.compile(rf'"({ID})"\s*:\s*\{{')
LINE = re.compile(r'"([^"]*)"[ \t]*:[ \t]*(.*?)[ \t]*,?[ \t]*\r?$')
# A bare value which is no JSON, and a quote in a value that does not end it, as nothing fitting follows.
BARE = re.compile(r'(:\s*)([^\s"{\[,}][^,}\n]*?)(\s*[,}])')
ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f"}


@dataclass(frozen=True)
class Listing:
    """Records by id; those that may be ours and could not be read; `doubt` says why others of ours may be missing."""

    jobs: dict[str, Record] = field(default_factory=dict)
    damaged: frozenset[str] = frozenset()
    doubt: str = ""


def read(text: str, marks: Collection[str] | None = None) -> Listing:
    """Read a listing. Only jobs whose text has one of `marks` (a user's "name@", ids) are looked into; None: all.

    Raises ValueError for a text without a listing in it.
    """
    if (first := OPEN_LIST.search(text)) and not text[: first.start()].rstrip().endswith("}"):
        return _by_lines(text, first, marks)
    return _compact(text, marks)


def _concerns(text: str, marks: Collection[str] | None) -> bool:
    return marks is None or any(mark in text for mark in marks)


# Pretty-printed: an attribute's line is a unit


def _by_lines(text: str, first: re.Match[str], marks: Collection[str] | None) -> Listing:
    """Jobs begin in lines of their own, one step deeper than "Jobs"; a user's text cannot leave its line."""
    unit = first[1]
    depths = {unit * 2}  # where jobs may begin
    opens: list[re.Match[str]] = []
    for found in OPEN.finditer(text, first.end()):
        if found[2] and (found[1] in depths or found[1] == unit):
            depths.add(found[1] + unit)
        elif found[3] and found[1] in depths:
            opens.append(found)
    jobs: dict[str, Record] = {}
    damaged: set[str] = set()
    doubts: list[str] = []
    if not opens and ANY_OPEN.search(text, first.end()) and _concerns(text, marks):
        doubts.append("jobs that stand where none can be")
    if opens and _concerns(gap := text[first.end() : opens[0].start()], marks) and ANY_OPEN.search(gap):
        doubts.append("text before the first job")
    for here, following in zip(opens, [*opens[1:], None], strict=False):  # an empty list has none
        part = text[here.start() : following.start() if following else len(text)]
        if not _concerns(part, marks):
            continue
        record, rest = _inline(here[4], part) if here[4].strip() else _record(part, here[1], unit)
        if rest and ANY_OPEN.search(rest) and _concerns(rest, marks):
            doubts.append(f"text after job {here[3]}")
        if record is None or (here[3] in jobs and _differ(jobs[here[3]], record)):
            damaged.add(here[3])
        else:
            jobs.setdefault(here[3], record)
    if not _closed(text):
        doubts.append("it ends in the middle")
    return Listing({job: jobs[job] for job in jobs if job not in damaged}, frozenset(damaged), "; ".join(doubts))


def _closed(text: str) -> bool:
    return re.search(r"(?:^|\n)\}\s*$", text[-1000:]) is not None


def _inline(body: str, part: str) -> tuple[Record | None, str]:
    """A record in its first line, and what follows that."""
    rest = part.partition("\n")[2]
    with suppress(ValueError):
        record, end = json.JSONDecoder(strict=False).raw_decode("{" + body)
        if ("{" + body)[end:].strip(" \t\r,}") == "" and isinstance(record, dict) and not _lacking(record):
            return record, rest
    return None, rest


def _record(part: str, indent: str, unit: str) -> tuple[Record | None, str]:
    """A record line by line, None if what is needed of it cannot be read, and the text after it."""
    record: Record = {}
    bad = False
    inner: Record | None = None
    array = closed = False
    lines = part.split("\n")[1:]
    at, deeper = indent + unit, indent + unit * 2
    position = 0
    for position, line in enumerate(lines):  # noqa: B007 (where it ended)
        body = line.rstrip("\r")
        if body.startswith(indent + "}"):
            closed = body[len(indent) + 1 :].strip(" \t,}") == ""
            bad |= not closed
            break
        if body.startswith(at) and body[len(at) : len(at) + 1] not in (" ", "\t"):
            content = body[len(at) :]
            if content[:1] in ("}", "]"):
                inner, array = None, False
            elif found := LINE.match(content):
                key, value = found[1], found[2]
                inner, array = None, False
                if value in ("{", "["):
                    inner, array = ({}, False) if value == "{" else (None, True)
                    told: Any = inner if value == "{" else []
                else:
                    told = _value(value)
                if key in JUDGED and (told is None or (key in record and record[key] != told)):
                    bad = True
                record.setdefault(key, told)
            else:
                bad |= _names_needed(body)
        elif inner is not None and body.startswith(deeper):
            if found := LINE.match(body[len(deeper) :]):
                inner.setdefault(found[1], _value(found[2]))
        elif not array:
            bad |= _names_needed(body)
    rest = "\n".join(lines[position + 1 :])
    return (None if bad or not closed or _lacking(record) else record), rest


def _names_needed(line: str) -> bool:
    return any(f'"{key}"' in line for key in JUDGED)


def _lacking(record: Record) -> bool:
    return any(not isinstance(record.get(key), str | int | float) for key in NEEDED)


def _differ(one: Record, other: Record) -> bool:
    return any(str(one.get(key)) != str(other.get(key)) for key in JUDGED)


def _value(text: str) -> Any:
    """One value by itself: JSON, else a quoted text in which something is not escaped, else the bare text."""
    with suppress(ValueError):
        return json.loads(text, strict=False)
    if not text.startswith('"'):
        return text or None
    if len(text) < 2 or not text.endswith('"'):
        return None  # cut, or it goes on in another line
    return re.sub(r'\\(["\\/bfnrt])', lambda found: ESCAPES.get(found[1], found[1]), text[1:-1])


# In one line, or in a form of its own


def _merged(pairs: list[tuple[str, Any]]) -> Record:
    """An object; a second "Jobs" adds to the first."""
    found: Record = {}
    for key, value in pairs:
        if key == "Jobs" and isinstance(value, dict) and isinstance(found.get(key), dict):
            for job, record in value.items():
                found[key][job] = record if job not in found[key] else _conflict(found[key][job], record)
        elif re.fullmatch(ID, key) and key in found:
            found[key] = _conflict(found[key], value)
        else:
            found[key] = value
    return found


def _conflict(one: Any, other: Any) -> Any:
    """One of two records of the same job; nothing readable where they contradict each other."""
    same = isinstance(one, dict) and isinstance(other, dict) and not _differ(one, other)
    return one if same else {}


def _compact(text: str, marks: Collection[str] | None) -> Listing:
    begin = text.find("{")
    if begin < 0:
        raise ValueError("no object in it")
    try:
        content, end = json.JSONDecoder(strict=False, object_pairs_hook=_merged).raw_decode(text, begin)
    except (ValueError, RecursionError):
        return _scanned(text[begin:], marks)
    jobs = content.get("Jobs", {})
    rest = text[end:] if isinstance(jobs, dict) else text
    odd = ("Jobs" not in content or not isinstance(jobs, dict) or rest.strip()) and ANY_OPEN.search(
        rest if "Jobs" in content else text
    )
    if odd and "Jobs" in content and isinstance(jobs, dict):  # a second listing behind the first
        return _scanned(text[begin:], marks)
    if odd:
        return Listing(doubt="jobs that stand where none can be")
    return _sorted(((job, record) for job, record in jobs.items()) if isinstance(jobs, dict) else iter(()), marks)


def _sorted(records: Iterator[tuple[str, Any]], marks: Collection[str] | None) -> Listing:
    jobs: dict[str, Record] = {}
    damaged = set()
    for job, record in records:
        if isinstance(record, dict) and not _lacking(record):
            jobs[job] = record
        elif marks is None or not isinstance(record, dict) or not record or _concerns(job + str(record), marks):
            damaged.add(job)
    return Listing(jobs, frozenset(damaged))


def _scanned(text: str, marks: Collection[str] | None) -> Listing:
    """Damaged: each job's text alone, repaired. After one that cannot be read, a job may be text of that one."""
    opens = [
        found
        for found in ANY_OPEN.finditer(text)
        if text[max(0, found.start() - 99) : found.start()].rstrip()[-1:] in ("{", ",")
    ]
    if not opens:
        raise ValueError("no job in it can be read")
    jobs: dict[str, Record] = {}
    damaged: set[str] = set()
    doubts: list[str] = []
    for here, following in zip(opens, [*opens[1:], None], strict=True):
        end = following.start() if following else len(text)
        record = _repaired(text[here.end() - 1 : end])
        if record is None:
            doubts.append(f"job {here[1]} is damaged")
            damaged.add(here[1])
        elif doubts or _lacking(record) or (here[1] in jobs and _differ(jobs[here[1]], record)):
            damaged.add(here[1])
        else:
            jobs[here[1]] = record
    if not text.rstrip().endswith("}"):
        doubts.append("it ends in the middle")
    if not _concerns(text, marks):
        doubts, damaged = [], set()
    return Listing({job: jobs[job] for job in jobs if job not in damaged}, frozenset(damaged), "; ".join(doubts[:2]))


def _repaired(part: str) -> Record | None:
    """The object at the beginning of a text, by the mildest repair that makes it one; None if none does."""
    repairs: tuple[Callable[[str], str], ...] = (str, _bare, _stray, lambda text: _quotes(_stray(text)))
    for repair in repairs:
        with suppress(ValueError, RecursionError):
            repaired = repair(part)
            record, end = json.JSONDecoder(strict=False).raw_decode(repaired)
            rest = re.sub(r'"Jobs"\s*:\s*\{', "", repaired[end:])
            if isinstance(record, dict) and re.fullmatch(r"[\s,{}]*", rest):
                return record
    return None


def _bare(text: str) -> str:
    def quoted(found: re.Match[str]) -> str:
        with suppress(ValueError):
            json.loads(found[2])
            return found[0]
        return found[1] + json.dumps(found[2]) + found[3]

    return BARE.sub(quoted, text)


def _stray(text: str) -> str:
    return re.sub(r'\\(u[0-9a-fA-F]{4}|["\\/bfnrt])|\\', lambda found: found[0] if found[1] else r"\\", _bare(text))


def _quotes(text: str) -> str:
    """Escape the quotes inside values: one ends a value only before what can follow a value."""
    out: list[str] = []
    inside = False
    for found in re.finditer(r'\\.|"|[^"\\]+|\\', text, re.DOTALL):
        token = found[0]
        if token == '"':
            after = text[found.end() : found.end() + 200]
            if not inside:
                inside = True
            elif re.match(r'\s*(?::|\}|\]|,\s*"[^"]*"\s*:|,\s*\Z|\Z)', after):
                inside = False
            else:
                token = '\\"'
        out.append(token)
    return "".join(out)
