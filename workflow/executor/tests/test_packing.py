"""Which scripts share a job: what fits, in which order, and that nothing starts later than planned."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from snakemake_executor_plugin_batch_script.packing import Pack, Request, Room, fill, request, room, shares

HEAD = Path("/h.sh")


def starts(members: list[tuple[int, float]], nodes: int) -> list[float]:
    """When the runner starts members of so many nodes and minutes: in order, each once its nodes are free."""
    ends = [0.0] * nodes
    found, last = [], 0.0
    for count, minutes in members:
        ends.sort()
        last = max(last, ends[count - 1])
        found.append(last)
        ends[:count] = [last + minutes] * count
    return found


@given(
    st.lists(st.tuples(st.integers(1, 9), st.integers(1, 50), st.floats(0, 1)), max_size=25),
    st.integers(1, 8),
    st.integers(1, 120),
)
def test_what_is_packed_fits_even_if_each_takes_all_of_its_time(wanted, nodes, minutes):
    requests = [(str(i), Request(HEAD, n, m)) for i, (n, m, _) in enumerate(wanted)]
    packs = fill(requests, Room(nodes, minutes))
    placed = [i for _, members in packs for i in members]
    assert sorted(placed) == [i for i, (n, m, _) in enumerate(wanted) if n <= nodes and m <= minutes]
    for _, members in packs:
        assert members == sorted(members)
        planned = starts([(wanted[i][0], wanted[i][1]) for i in members], nodes)
        assert all(start + wanted[i][1] <= minutes for start, i in zip(planned, members, strict=True))
        # with some that end early, nothing starts later
        early = starts([(wanted[i][0], wanted[i][1] * wanted[i][2]) for i in members], nodes)
        assert all(a <= b for a, b in zip(early, planned, strict=True))


@given(st.lists(st.tuples(st.integers(1, 4), st.integers(1, 30)), max_size=20))
def test_a_full_pack_takes_not_even_the_smallest(wanted):
    for pack, _ in fill([(str(i), Request(HEAD, n, m)) for i, (n, m) in enumerate(wanted)], Room(4, 60)):
        assert pack.full == (not pack.takes("one more", Request(HEAD, 1, 1)))


def test_scripts_of_one_name_never_share_a_job():
    pack = Pack(Room(4, 60))
    assert pack.takes("a", Request(HEAD, 1, 10))
    assert not pack.takes("a", Request(HEAD, 1, 10))


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("#BATCH_SCRIPT --pack '/a b/h.sh' --nodes 2 --minutes 30", Request(Path("/a b/h.sh"), 2, 30)),
        ("#BATCH_SCRIPT --pack=/h.sh --nodes=2 --minutes=30", Request(HEAD, 2, 30)),
        ("#BATCH_SCRIPT --pack /h.sh --nodes 0 --minutes 30", None),
        ("#BATCH_SCRIPT --pack /h.sh --nodes 2", None),
        ("#BATCH_SCRIPT --nodes 2 --minutes 30", None),
        ("# BATCH_SCRIPT --pack /h.sh --nodes 2 --minutes 30", None),
        ("", None),
    ],
)  # fmt: skip
def test_what_a_script_asks_for(line, found, tmp_path):
    (tmp_path / "a.sh").write_text(f"#!/bin/sh\n{line}\n")
    assert request(tmp_path / "a.sh") == found
    assert request(tmp_path / "none.sh") is None


def test_scripts_are_divided_in_their_order(tmp_path):
    head = tmp_path / "head.sh"
    head.write_text("#!/bin/sh\n#BATCH_SCRIPT --nodes 4 --minutes 30\n")

    def script(name, words):
        path = tmp_path / f"{name}.sh"
        path.write_text(f"#!/bin/sh\n{words}\n")
        return path

    def part(name, nodes, minutes=30, of=head):
        return script(name, f"#BATCH_SCRIPT --pack {of} --nodes {nodes} --minutes {minutes}")

    assert room(head) == Room(4, 30)
    alone, lost = script("alone", ""), part("lost", 1, of=tmp_path / "none.sh")
    a, b, c, d, large, long = (
        part("a", 2), part("b", 3), part("c", 2), part("d", 1), part("large", 5), part("long", 1, 31)
    )  # fmt: skip
    now, later = shares([a, alone, b, lost, c, large, long])
    assert now == [[a, c], [alone], [lost], [large], [long]]
    assert later == [[b]]
    assert shares([a, b, c, d]) == ([[a, c], [b, d]], [])
    assert shares([]) == ([], [])
