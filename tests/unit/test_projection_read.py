"""campaign project: what is read from a file of measurements, and what is refused, by file and row."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from bnn.errors import UserError
from campaign.results.projection.read import COLUMNS, read_curves
from campaign.tell.projection import project_allreduce, rank_counts
from tests.support.allreduce import PER_NODE, curve, microseconds, noisy, write_csv

HEADER = ",".join(COLUMNS)
GOOD = ("v,mpi,1,4,8,1.5", "v,mpi,1,4,16,1.6", "v,mpi,2,8,8,2.5", "v,mpi,2,8,16,2.6")


def written(folder: Path, *rows: str, header: str = HEADER) -> Path:
    path = folder / "times.csv"
    path.write_text("\n".join([header, *rows, ""]))
    return path


def refused(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        read_curves(path)
    return str(caught.value)


@pytest.mark.parametrize("text", ["1_000", "١٢", "1e300", "5e-324", "0x10", "nan", "inf", "-1", "1,5", "1e999"])
def test_a_time_that_is_none_is_named_with_its_row(tmp_path: Path, text: str) -> None:
    said = refused(written(tmp_path, *GOOD[:3], f'v,mpi,2,8,16,"{text}"'))
    assert said.startswith(f"{tmp_path / 'times.csv'}: row 5: microseconds ")


def test_a_file_of_curves_is_read(tmp_path: Path) -> None:
    other = [row.replace("mpi", "nccl") for row in GOOD]
    between = [row for pair in zip(GOOD, other, strict=True) for row in pair]  # curves may alternate
    first, second = read_curves(written(tmp_path, *between))
    assert (first.node, first.library, second.library) == ("v", "mpi", "nccl")
    assert (first.ranks, first.nodes, first.sizes, first.per_node) == ((4, 8), (1, 2), (8, 16), 4)
    assert first.microseconds.tolist() == [[1.5, 1.6], [2.5, 2.6]]


def test_columns_may_stand_in_any_order_beside_others(tmp_path: Path) -> None:
    header = ",".join(["host", *reversed(COLUMNS)])
    rows = [",".join(["x", *reversed(row.split(","))]) for row in GOOD]
    assert read_curves(written(tmp_path, *rows, header=header))[0].microseconds.tolist() == [[1.5, 1.6], [2.5, 2.6]]


def with_shares(*shares: str) -> list[str]:
    return [f"{row},{share}" for row, share in zip(GOOD, shares, strict=True)]


def test_what_is_left_to_computing_is_read_where_all_of_a_curve_has_it(tmp_path: Path) -> None:
    header = f"{HEADER},computing"
    (found,) = read_curves(written(tmp_path, *with_shares("1", "0.9", "0.8", "0"), header=header))
    assert found.computing is not None
    assert found.computing.tolist() == [[1, 0.9], [0.8, 0]]
    assert [found.beside(ranks) for ranks in (1, 4, 7, 8, 100)] == [(1, 0.9)] * 3 + [(0.8, 0)] * 2
    (found,) = read_curves(written(tmp_path, *with_shares("1", "", "0.8", "0.7"), header=header))
    assert found.computing is None
    assert found.beside(8) == ()


@pytest.mark.parametrize("share", ["1.01", "-0.1", "nan", "half", "inf"])
def test_no_share_of_computing_is_refused_by_row(share: str, tmp_path: Path) -> None:
    said = refused(written(tmp_path, *with_shares("1", "1", share, "1"), header=f"{HEADER},computing"))
    assert f"row 4: computing {share}" in said.replace("'", "")
    assert refused(written(tmp_path, header=f"{HEADER},computing,computing")).endswith("computing more than once")


def test_sizes_that_some_scales_lack_are_kept_apart(tmp_path: Path) -> None:
    found = read_curves(written(tmp_path, *GOOD, "v,mpi,2,8,32,3"))[0]
    assert (found.sizes, found.partial) == ((8, 16), (32,))


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([*GOOD[:2]], "row 2: v mpi: measured at one scale only (4 ranks)"),
        ([*GOOD[:3], "v,mpi,2,8,16,0"], "row 5: microseconds 0 is no positive, finite time"),
        ([*GOOD[:3], "v,mpi,2,8,16,-2.5"], "row 5: microseconds -2.5 is no positive, finite time"),
        ([*GOOD[:3], "v,mpi,2,8,16,nan"], "row 5: microseconds 'nan' is no number"),
        ([*GOOD[:3], "v,mpi,2,8,16,inf"], "row 5: microseconds 'inf' is no number"),
        ([*GOOD[:3], "v,mpi,2,8,16,1e999"], "row 5: microseconds 1e999 is no positive, finite time"),
        ([*GOOD[:3], "v,mpi,2,8,16,fast"], "row 5: microseconds 'fast' is no number"),
        ([*GOOD, GOOD[-1]], "row 6: v mpi, 8 ranks, 16 bytes: measured in row 5 already"),
        ([*GOOD, GOOD[2]], "row 6: v mpi, 8 ranks, 8 bytes: out of order after row 5"),
        ([*GOOD[2:], *GOOD[:2]], "row 4: v mpi, 4 ranks, 8 bytes: out of order after row 3"),
        ([*GOOD[:3], "v,mpi,1,8,16,2.6"], "row 5: v mpi, 8 ranks, 16 bytes: on 1 nodes here, on 2 in row 4"),
        ([*GOOD, "v,mpi,1,16,8,3"], "row 6: v mpi, 16 ranks, 8 bytes: on 1 nodes, 8 ranks on 2"),
        ([*GOOD, "v,mpi,3,16,8,3"], "row 6: 16 ranks cannot be spread evenly over 3 nodes"),
        ([*GOOD, "v,mpi,0,16,8,3"], "row 6: nodes '0' is no positive whole number"),
        ([*GOOD, "v,mpi,4,16,8.5,3"], "row 6: bytes '8.5' is no positive whole number"),
        ([*GOOD, "v,mpi,4,-16,8,3"], "row 6: ranks '-16' is no positive whole number"),
        ([*GOOD, f"v,mpi,4,16,{'9' * 5000},3"], "row 6: bytes '999"),
        ([*GOOD, "v,,4,16,8,3"], "row 6: library '' is no name"),
        ([*GOOD, '"v\nw",mpi,4,16,8,3'], "row 7: node 'v\\nw' is no name"),
        ([*GOOD, "v,mpi,4,16,8"], "row 6: 5 fields, the header has 6"),
        ([*GOOD, '"v,mpi,4,16,8,3'], "row 6: not CSV"),
        (
            ["v,mpi,1,4,8,1", "v,mpi,2,8,16,2"],
            "row 2: v mpi: no number of bytes was measured at all of its rank counts",
        ),
        ([], "no measurements below the header"),
    ],
)
def test_what_no_curve_can_be_made_of_is_one_line_with_file_and_row(tmp_path: Path, rows: list[str], said: str) -> None:
    path = written(tmp_path, *rows)
    line = refused(path)
    assert line.startswith(f"{path}: ")
    assert said in line
    assert "\n" not in line


@pytest.mark.parametrize("lacking", COLUMNS)
def test_a_column_that_is_missing_or_there_twice_is_named(tmp_path: Path, lacking: str) -> None:
    header = ",".join("x" if name == lacking else name for name in COLUMNS)
    assert f"row 1: needs the column {lacking} once" in refused(written(tmp_path, *GOOD, header=header))
    twice = [f"{row},1" for row in GOOD]
    assert f"needs the column {lacking} once" in refused(written(tmp_path, *twice, header=f"{HEADER},{lacking}"))


def test_files_that_hold_no_table_are_named(tmp_path: Path) -> None:
    assert "No such file" in refused(tmp_path / "absent.csv")
    binary = tmp_path / "binary.csv"
    binary.write_bytes(b"\xff\xfe\x00")
    assert "not text in UTF-8" in refused(binary)
    assert "a folder, where a file is expected" in refused(tmp_path)


FIELD = st.text(st.characters(codec="utf-8"), max_size=8) | st.integers().map(str) | st.floats().map(str)


def quoted(fields: list[str]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(fields)
    return line.getvalue()


@given(
    st.lists(
        st.lists(FIELD, min_size=0, max_size=7).map(",".join) | st.lists(FIELD, max_size=7).map(quoted), max_size=8
    )
)
def test_any_rows_are_read_or_refused_in_one_line(tmp_path_factory: pytest.TempPathFactory, rows: list[str]) -> None:
    path = tmp_path_factory.mktemp("any") / "any.csv"
    path.write_text("\n".join([HEADER, *GOOD, *rows]), encoding="utf-8", newline="")
    try:
        curves = read_curves(path)
    except UserError as error:
        assert str(error).startswith(f"{path}: ")  # noqa: PT017
        assert "\n" not in str(error)  # noqa: PT017
    else:
        assert all((each.microseconds > 0).all() for each in curves)


@given(st.data())
def test_what_was_written_is_what_is_read(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    ranks = tuple(PER_NODE * 2**power for power in range(data.draw(st.integers(2, 5))))
    seed = data.draw(st.integers(0, 2**32 - 1))
    curves = [curve(noisy(microseconds("ring", ranks), 0.5, seed), ranks, node=node) for node in ("a", "b")]
    found = read_curves(write_csv(tmp_path_factory.mktemp("curves") / "curves.csv", curves))
    for given_, read in zip(curves, found, strict=True):
        assert (read.node, read.ranks, read.nodes, read.sizes) == (
            given_.node,
            given_.ranks,
            given_.nodes,
            given_.sizes,
        )
        assert (read.microseconds == given_.microseconds).all()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "--ranks: '' is no rank count"),
        ("32,", "--ranks: '' is no rank count"),
        ("32,x", "--ranks: 'x' is no rank count"),
        ("0", "--ranks: '0' is no rank count"),
        ("-8", "--ranks: '-8' is no rank count"),
        ("3.5", "--ranks: '3.5' is no rank count"),
        ("99999999999", "--ranks: '99999999999' is no rank count"),
        ("64,32,64", "--ranks: 64 is there twice"),
    ],
)
def test_rank_counts_that_are_none_are_refused(text: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        rank_counts(text)


@pytest.mark.parametrize(
    ("ranks", "why"), [("8", "measured already"), ("12", "fewer than the 16"), ("18", "not a multiple of the 4 ranks")]
)
def test_rank_counts_that_no_curve_answers_are_refused_and_nothing_is_written(
    tmp_path: Path, ranks: str, why: str
) -> None:
    path = write_csv(tmp_path / "times.csv", [curve(microseconds("ring", (4, 8, 16)), (4, 8, 16))])
    with pytest.raises(UserError, match=f"--ranks: {ranks}: no curve of .*{why}"):
        project_allreduce(path, f"{ranks},32", tmp_path / "out.parquet")
    assert not (tmp_path / "out.parquet").exists()


def test_the_file_of_measurements_is_never_written_to(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "times.csv", [curve(microseconds("ring", (4, 8, 16)), (4, 8, 16))])
    before = path.read_bytes()
    with pytest.raises(UserError, match="is the file of measurements itself"):
        project_allreduce(path, "32", path)
    assert path.read_bytes() == before


def test_the_command_says_a_mistake_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from campaign.tell import cli

    path = written(tmp_path, *GOOD[:2])
    arguments = ["campaign", "project", "--allreduce", str(path), "--ranks", "32", "--out", str(tmp_path / "p.parquet")]
    monkeypatch.setattr("sys.argv", arguments)
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code == 2
    assert capsys.readouterr().err.splitlines() == [
        f"campaign: {path}: row 2: v mpi: measured at one scale only (4 ranks); a curve needs more"
    ]
    result = CliRunner().invoke(cli.cli, ["project", "--allreduce", str(path)])
    assert result.exit_code == 2
