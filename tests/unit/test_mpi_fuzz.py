"""Whatever is done to a profile, the parser reads numbers that are there or refuses it in one line."""

import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from bnn.errors import UserError
from campaign.results.mpi import Profile, parse, profile_json

SAMPLES = sorted((Path(__file__).parents[1] / "data" / "mpi").iterdir())
if "BNN_REFERENCE_DATA" in os.environ:
    SAMPLES += sorted((Path(os.environ["BNN_REFERENCE_DATA"]) / "mpi_profiles").iterdir())
NUMBER = re.compile(r"[0-9]+(?:\.[0-9]+)?(?:e[+-][0-9]+)?", re.ASCII)
MEMORY = ("memory_bytes",)


def numbers(value: Any, key: str = "") -> Iterator[tuple[str, float]]:
    """Every number in the fields of a profile, with its field's name."""
    if isinstance(value, dict):
        for name, part in value.items():
            yield from numbers(part, name)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from numbers(part, key)
    elif isinstance(value, int | float):
        yield key, value


def read_or_refused(name: str, data: bytes) -> list[Profile]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(data)
        try:
            profiles = parse(path)
            profile_json([path])
        except UserError as error:
            text = str(error)
            assert re.match(rf"{re.escape(str(path))}:[0-9]+: .", text), text
            assert "\n" not in text
            return []
    return profiles


def only_numbers_of_the_text(profiles: list[Profile], text: str) -> None:
    written = {float(word) for word in NUMBER.findall(text)}
    for profile in profiles:
        if profile.tool == "mpiP":  # sums over call sites, and so checked by hand elsewhere
            assert profile.totals is not None
            assert {profile.totals.communication, profile.totals.elapsed} <= written
            assert sum(r.calls for r in profile.routines) <= sum(written) * len(text)
            continue
        fields = {k: v for k, v in vars(profile).items() if k not in ("file", "tool", "job", "window")}
        fields = {k: _plain(v) for k, v in fields.items()}
        for name, value in numbers(fields):
            if name in MEMORY:
                assert any(abs(w * unit - value) <= 0.5 for w in written for unit in (2**10, 2**20))
            else:
                assert value in written, (name, value)


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(part) for part in value]
    return {k: _plain(v) for k, v in vars(value).items()} if hasattr(value, "__dataclass_fields__") else value


@st.composite
def mutated(draw) -> tuple[str, bytes]:
    """A sample with bytes overwritten, inserted, removed, and lines dropped, doubled, swapped or taken from another."""
    sample = draw(st.sampled_from(SAMPLES))
    lines = sample.read_bytes().split(b"\n")
    other = draw(st.sampled_from(SAMPLES)).read_bytes().split(b"\n")
    for _ in range(draw(st.integers(0, 2))):
        at = draw(st.integers(0, len(lines) - 1))
        match draw(st.sampled_from(["drop", "double", "swap", "foreign", "cut"])):
            case "drop":
                lines[at : at + draw(st.integers(1, 4))] = []
            case "double":
                lines.insert(at, lines[at])
            case "swap":
                to = draw(st.integers(0, len(lines) - 1))
                lines[at], lines[to] = lines[to], lines[at]
            case "foreign":
                lines.insert(at, draw(st.sampled_from(other)))
            case "cut":
                lines = lines[: at + 1]
        lines = lines or [b""]
    data = bytearray(b"\n".join(lines))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(data)))
        piece = draw(st.one_of(
            st.sampled_from([b" ", b".", b"-", b"0", b"9" * 30, b"nan", b"e+99", b"\t", b"\r", b"\xc2\xb2", b"\n"]),
            st.binary(max_size=3),
        ))  # fmt: skip
        data[at : at + draw(st.integers(0, 3))] = piece
    return sample.name, bytes(data)


@settings(max_examples=600)
@given(mutated())
def test_mutated_profiles(case):
    name, data = case
    profiles = read_or_refused(name, data)
    if profiles:
        only_numbers_of_the_text(profiles, data.decode())


@settings(max_examples=200)
@given(st.sampled_from([b"", b"@ mpiP", b"@ mpiP\n", b"Data for MPI rank 0 of 1:\n"]), st.binary(max_size=200))
def test_any_bytes(start, data):
    assert read_or_refused("mpi_profile.1.0", start + data) == []


def test_the_samples_themselves_are_read_and_all_their_numbers_found():
    for sample in SAMPLES:
        profiles = read_or_refused(sample.name, sample.read_bytes())
        assert profiles
        only_numbers_of_the_text(profiles, sample.read_text())
