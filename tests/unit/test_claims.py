"""Claims: a ledger is read strictly, expressions come to known numbers, verdicts follow from intervals."""

import copy
import csv
import hashlib
import json
import math
import os
import re
from pathlib import Path

import pandas as pd
import pytest
import yaml
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from bnn.errors import UserError
from bnn.metrics import Interval
from bnn.records.columns import read_table, write_table
from campaign.results.claims.expressions import Estimate, estimate
from campaign.results.claims.judge import VERDICTS, allowed, judge, repeats_needed
from campaign.results.claims.ledger import LEDGER, load_ledger
from campaign.results.claims.measures import Side
from campaign.results.claims.numbers import SCALES, changed, printed, rounded
from campaign.results.claims.rows import claim_rows
from campaign.results.claims.words import said as words_of
from campaign.results.steps.claims import read_others
from campaign.results.tables.build import frame
from campaign.results.tables.claims import CLAIMS
from campaign.results.tables.schemas import TABLES as SCHEMAS
from campaign.tell.cli import cli
from tests.support.cells import built_campaign
from tests.support.claims import OF, TO, cell, cells, claim, content, ledger

SIDE = Side({"width": 1.0}, "reference", {"bnn": ["bnn-flipout-reference"], "cnn": ["cnn-plain"]})
POSITIVE = st.floats(0.01, 100)


def pairs(*ratios, **more):
    rows = [cell("bnn", repeat, ratio * 10, **more) for repeat, ratio in enumerate(ratios, 1)]
    return cells(*rows, *[cell("cnn", repeat, 10.0, **more) for repeat, _ in enumerate(ratios, 1)])


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [("3.37", 3.365, 3.375), ("0.90", 0.895, 0.905), ("0.9", 0.85, 0.95), ("42", 41.5, 42.5), ("=42", 42, 42)],
)
def test_a_printed_number_is_half_a_unit_of_its_last_digit_wide(text, low, high):
    assert (rounded(text).low, rounded(text).high) == pytest.approx((low, high))


@given(st.sampled_from(sorted(SCALES)), POSITIVE, POSITIVE)
def test_scales_go_there_and_back_and_keep_ends_in_order(name, a, b):
    there, back = SCALES[name]
    shown = changed(Interval(a, min(a, b), max(a, b), ""), there)
    assert shown.low <= shown.value + 1e-9
    assert shown.low <= shown.high
    again = changed(shown, back)
    assert (again.low, again.high) == pytest.approx((min(a, b), max(a, b)), rel=1e-6, abs=1e-9)


def write(tmp_path, given):
    path = tmp_path / "toy.yaml"
    path.write_text(yaml.safe_dump(given))
    return path


def test_a_ledger_is_read_with_its_hash(tmp_path):
    path = write(tmp_path, content())
    read = load_ledger(path)
    assert read.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert read.claims[0].margin == 0.1


def drop(key):
    return lambda entry: entry.pop(key)


def put(**values):
    return lambda entry: entry.update(values)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (drop("margin"), "margin: missing"),
        (drop("statement"), "statement: missing"),
        (drop("printed"), "printed: missing"),
        (drop("hardware"), "hardware: missing"),
        (put(marginn=0.1), "marginn: unknown key, did you mean margin?"),
        (put(type="truth"), "'truth' is none of"),
        (put(margin=-0.1), "must be at least 0"),
        (put(hardware="bigg"), "did you mean big?"),
        (put(type="ordering"), "relation: missing"),
        (put(relation="at least"), "relation and bound are of orderings"),
        (put(printed={"value": "0.5", "low": "0.4", "high": "0.6"}), "not both"),
        (put(expression={"function": "eval"}), "'eval' is none of"),
        (put(expression={"function": "ratio", "of": OF}), "expression.to: missing"),
        (put(expression={"function": "value", "of": OF, "to": TO}), "to: function value has no such argument"),
        (put(expression={"function": "value", "of": {**OF, "column": "throughput"}}), "no column throughput"),
        (put(expression={"function": "value", "of": {**OF, "column": "folder"}}), "folder is no number"),
        (put(expression={"function": "value", "of": {**OF, "where": {"kin": 1}}}), "did you mean kind?"),
        (put(expression={"function": "value", "of": {**OF, "per": "folder"}}), "per: folder is no number"),
        (put(expression={"function": "value", "of": {**OF, "minus": "ranks", "per": "ranks"}}), "both minus and per"),
        (
            put(
                expression={
                    "function": "value",
                    "of": {"table": "throughput", "column": "throughput_steady", "per": "step_seconds"},
                }
            ),
            "table throughput has intervals instead",
        ),
        (put(expression={"function": "slope", "of": OF, "over": "node"}), "did you mean nodes?"),
        (put(expression={"function": "arithmetic", "product": ["0"]}), "not a positive number"),
    ],
)
def test_a_slip_in_a_ledger_is_one_line_with_the_claims_id(tmp_path, change, words):
    given = content()
    given["claims"][0] = copy.deepcopy(given["claims"][0])
    change(given["claims"][0])
    with pytest.raises(UserError) as raised:
        load_ledger(write(tmp_path, given))
    assert "claim half" in str(raised.value)
    assert words in str(raised.value)
    assert "\n" not in str(raised.value)


def test_two_claims_of_one_id_are_refused(tmp_path):
    given = content()
    given["claims"] = [given["claims"][0], copy.deepcopy(given["claims"][0])]
    with pytest.raises(UserError, match="claim half: two claims have this id"):
        load_ledger(write(tmp_path, given))


def test_the_papers_ledger_is_sound():
    read = load_ledger()
    kinds = {claim.type for claim in read.claims}
    assert kinds == {"value", "ratio", "ordering", "trend", "count"}
    assert sum(claim.id.startswith("slip-") for claim in read.claims) >= 6
    assert all(claim.margin_reason and claim.statement.endswith(".") for claim in read.claims)


@pytest.mark.skipif("BNN_REFERENCE_DATA" not in os.environ, reason="needs the reference data")
def test_every_printed_number_of_the_paper_is_in_its_ledger():
    file = Path(os.environ["BNN_REFERENCE_DATA"]).parent / "paper" / "reference.csv"
    if not file.exists():
        pytest.skip("no reference.csv beside the reference data")
    ours = set()
    for one in load_ledger().claims:
        for text in (one.printed or {}).values():
            number = float(text)
            ours |= {number, 1000 * number if one.scale == "thousands" else number, number / 100}
        ours |= {float(one.bound)} | {float(v) for v in one.expression.get("divided_by", []) if v[0] != "="}
        for selection in (one.expression.get("of"), one.expression.get("to")):
            where = selection.get("where", {}) if selection else {}
            ours |= {float(where[key]) for key in ("percent_asked", "nodes") if key in where and where[key] != [0]}
    with file.open() as lines:
        values = [value for row in csv.DictReader(lines) for value in row["value"].split("-")]
    assert len(values) == 72
    assert not [value for value in values if float(value) not in ours]


def test_a_ratio_is_paired_by_repeat():
    tables = cells(cell("bnn", 1, 5), cell("bnn", 2, 10), cell("cnn", 2, 20), cell("cnn", 1, 10), cell("cnn", 3, 1))
    found = estimate(claim().expression, tables, SIDE)
    assert found.interval.value == pytest.approx(0.5)
    assert (found.repeats, len(found.cells), found.sites) == (2, 5, ("toy",))


def test_points_are_pooled_in_each_repeat_and_incomplete_repeats_left_out():
    rows = [cell("bnn", r, t, nodes=n) for r, n, t in ((1, 1, 5), (1, 2, 20), (2, 1, 5), (2, 2, 20), (3, 1, 9))]
    rows += [cell("cnn", r, 10, nodes=n) for r in (1, 2, 3) for n in (1, 2)]
    found = estimate(claim().expression | {"pool": ["nodes"]}, cells(*rows), SIDE)
    assert (found.interval.value, found.repeats) == (pytest.approx(1.0), 2)


@given(st.floats(0.5, 3), POSITIVE, st.lists(st.sampled_from([1, 2, 4, 8, 16]), min_size=2, unique=True))
def test_a_slope_is_the_factor_per_doubling(factor, first, nodes):
    rows = [cell("bnn", r, first * factor ** math.log2(n), nodes=n) for r in (1, 2) for n in nodes]
    found = estimate({"function": "slope", "of": OF, "over": "nodes"}, cells(*rows), SIDE)
    assert found.interval.value == pytest.approx(factor, rel=1e-6)
    assert found.repeats == 2


@pytest.mark.parametrize(("best", "value"), [("highest", 10 / 9), ("lowest", 8 / 10)])
def test_the_best_of_variants_is_compared_with_the_best_of_the_others(best, value):
    rows = [cell("bnn", r, t, variant=v) for r in (1, 2) for v, t in (("a", 10), ("b", 9), ("c", 8))]
    expression = {"function": "best", "of": OF, "at": "a", "among": ["a", "b", "c"], "best": best}
    assert estimate(expression, cells(*rows), SIDE).interval.value == pytest.approx(value)


def test_arithmetic_keeps_what_rounding_leaves_open():
    found = estimate({"function": "arithmetic", "product": ["2861.0"], "divided_by": ["152.4"]}, {}, SIDE)
    assert found.interval.low == pytest.approx(2860.95 / 152.45)
    assert found.interval.high == pytest.approx(2861.05 / 152.35)


def test_intervals_that_a_table_has_are_taken_from_it():
    tables = built_campaign()[1]
    row = tables["ratios"].query("variant == 'reference' and nodes == 1").iloc[0]
    of = {"table": "ratios", "column": "ratio", "where": {"variant": "reference", "nodes": 1}}
    found = estimate({"function": "value", "of": of}, tables, SIDE)
    at = found.interval
    assert (at.value, at.low, at.high) == pytest.approx((row["ratio"], row["ratio_low"], row["ratio_high"]))
    assert found.repeats == row["pairs"]
    assert len(found.cells) == 2 * row["pairs"]


def verdict(tables, same=False, **changes):
    one = claim(**changes)
    return judge(one, estimate(one.expression, tables, SIDE), same)


def test_verdicts():
    near, far, wide = pairs(0.5, 0.502, 0.499), pairs(0.8, 0.81, 0.79), pairs(0.4, 0.6, 0.5)
    assert verdict(near).verdict == "holds here"
    assert verdict(near, same=True).verdict == "agrees"
    assert verdict(near, scope="anywhere").verdict == "agrees"
    assert verdict(far).verdict == "does not hold here"
    assert verdict(far, same=True).verdict == "differs"
    assert "above what is allowed by 44" in verdict(far, same=True).reason
    assert verdict(wide).verdict == "undecided"
    assert "repeats would decide it, not 3" in verdict(wide).reason
    assert verdict(pairs(0.5)).verdict == "undecided"
    assert "at least 2" in verdict(pairs(0.5)).reason
    assert verdict(near, scope="same hardware").verdict == "not comparable"
    assert verdict(pairs(0.5, 0.5, width=0.25)).verdict == "not comparable"


def test_without_data_a_claim_is_not_tested_and_says_what_it_would_take():
    bad = pairs(0.5, 0.5, counted=False, verdict="INVALID")
    for tables in ({}, cells(), cells(cell("bnn", 1, 5)), bad, pairs(0.5, 0.5, implementation="bnn-flipout")):
        said = verdict(tables, same=True)
        assert said.verdict == "not tested"
        assert said.reason.endswith("run it")
    assert {v["verdict"] for v in claim_rows(load_ledger(), {}) if v["cells"]} == set()


def test_repeats_that_never_got_there_are_not_left_out_of_what_is_judged():
    measured = pairs(2.0, 2.1, 2.2)
    whole = estimate({"function": "ratio", "of": OF, "to": TO}, measured, SIDE)
    assert whole.repeats == 3
    table = measured[OF["table"]]
    first = table.index[(table["kind"] == "bnn") & (table["repeat"] == 2)]
    table.loc[first, OF["column"]] = math.nan
    found = estimate({"function": "ratio", "of": OF, "to": TO}, measured, SIDE)
    assert found.repeats == 0
    assert found.unlike == f"only 2 of the 3 valid rows of {OF['table']} have a value of {OF['column']}"
    table.loc[table["kind"] == "bnn", OF["column"]] = math.nan
    none = estimate({"function": "ratio", "of": OF, "to": TO}, measured, SIDE)
    assert none.unlike.startswith("none of the 3 valid rows")


def test_several_rows_of_a_repeat_do_not_serve():
    assert verdict(cells(cell("bnn", 1, 5), cell("bnn", 1, 5, nodes=2), cell("cnn", 1, 5))).verdict == "not comparable"


def test_a_count_is_exact():
    of = {"table": "cells", "column": "parameters_total", "where": {"kind": "bnn"}}
    given = {"type": "count", "scope": "anywhere", "margin": 0, "expression": {"function": "same", "of": of}}
    rows = pairs(1, 1, parameters_total=100)
    assert verdict(rows, printed={"value": "100"}, **given).verdict == "agrees"
    assert verdict(rows, printed={"value": "101"}, **given).verdict == "differs"
    less = {**of, "minus": "parameters_trainable"}
    given["expression"] = {"function": "same", "of": less}
    rows = pairs(1, 1, parameters_total=100, parameters_trainable=100)
    assert verdict(rows, printed={"value": "0"}, **given).verdict == "agrees"


@pytest.mark.parametrize(
    ("id", "unit"),
    [
        ("inference-seconds-10", "s"), ("time-64-epochs-vgg16-bnn", "minutes"), ("train-accuracy-vgg16-1", ""),
        ("bnn-cnn-time", ""), ("conv-prunes-more-robustly", ""), ("slip-doubled-kl", ""),
    ],
)  # fmt: skip
def test_numbers_have_the_unit_of_their_column_on_the_printed_scale(id, unit):
    rows = {row["id"]: row for row in claim_rows(load_ledger(), {})}
    assert rows[id]["unit"] == unit


def test_a_column_per_another_is_of_the_same_row():
    of = {"table": "cells", "column": "parameters_trainable", "per": "parameters_total", "where": {"kind": "bnn"}}
    given = {"type": "value", "scope": "anywhere", "margin": 0, "expression": {"function": "same", "of": of}}
    rows = pairs(1, 1, parameters_total=200, parameters_trainable=50)
    assert verdict(rows, printed={"value": "0.25"}, **given).verdict == "agrees"


@given(POSITIVE, POSITIVE, POSITIVE, st.floats(0, 0.5), st.sampled_from(["at least", "at most", ""]))
def test_a_verdict_is_where_the_interval_lies(a, b, bound, margin, relation):
    bounded = {"type": "ordering", "relation": relation, "bound": bound, "printed": None} if relation else {}
    one = claim(margin=margin, **bounded)
    low, high = allowed(one)
    at = Interval(math.sqrt(a * b), min(a, b), max(a, b), "")
    said = judge(one, Estimate(at, 3, sites=("big",)), True).verdict
    inside, outside = low <= at.low and at.high <= high, at.high < low or at.low > high
    assert said == ("agrees" if inside else "differs" if outside else "undecided")


@given(st.floats(1.001, 3), st.integers(2, 10), st.floats(0.01, 0.5))
def test_more_repeats_are_asked_for_where_some_would_decide(width, repeats, room):
    at = Interval(1.0, 1 / width, width, "")
    needed = repeats_needed(at, repeats, 1 / (1 + room), 1 + room)
    assert needed is None or needed > repeats
    closer = repeats_needed(at, repeats, 1 / (1 + 2 * room), 1 + 2 * room)
    assert needed is None or (closer is not None and closer <= needed)


def test_rows_fit_the_table_and_show_ours_beside(tmp_path):
    beside = [cell(k, r, t, variant="base", implementation=i)
              for r in (1, 2) for k, i, t in (("bnn", "bnn-flipout", 9), ("cnn", "cnn", 10))]  # fmt: skip
    tables = cells(*pairs(0.5, 0.5)["cells"].to_dict("records"), *beside)
    rows = claim_rows(ledger(claims=(claim(), claim(id="less", scale="percent less", printed={"value": "50"}))), tables)
    write_table(frame(rows, CLAIMS), tmp_path / "claims.parquet", CLAIMS)
    read = read_table(tmp_path / "claims.parquet", CLAIMS).set_index("id")
    assert read.loc["half", "beside"] == pytest.approx(0.9)
    assert read.loc["less", "ours"] == pytest.approx(50)
    assert read.loc["less", "beside"] == pytest.approx(10)
    assert set(read["ledger_sha256"]) == {"0" * 64}
    assert len(read.loc["half", "cells"].split("; ")) == 4


@pytest.mark.parametrize(
    ("judged", "beside", "said"), [(0.8, 0.5, True), (0.8, 0.9, False), (0.5, 0.5, False), (0.8, None, False)]
)
def test_a_claim_that_the_side_beside_keeps_is_refuted_by_its_implementation(judged, beside, said):
    base = (("bnn", "bnn-flipout", 10 * (beside or 0)), ("cnn", "cnn", 10))
    others = [cell(kind, repeat, time, variant="base", implementation=name)
              for repeat in (1, 2) for kind, name, time in base]  # fmt: skip
    rows = [*pairs(judged, judged)["cells"].to_dict("records"), *(others if beside else [])]
    (row,) = claim_rows(ledger(claims=(claim(),)), cells(*rows))
    assert row["verdict"] == ("holds here" if judged == 0.5 else "does not hold here")
    assert ("the implementation decides" in row["reason"]) == said


def test_what_is_known_of_a_claim_is_said_where_it_is_refuted():
    known = "its logs count start-up"
    assert verdict(pairs(0.8, 0.8), why=known).reason.endswith(f"; known of it: {known}")
    assert known not in verdict(pairs(0.5, 0.5), why=known).reason
    assert known not in verdict({}, why=known).reason


def test_what_the_papers_ledger_knows_of_a_claim_names_claims_that_it_has():
    claims = load_ledger().claims
    named = {name for one in claims for name in re.findall(r"slip-[a-z0-9.-]+", one.why)}
    assert named
    assert named <= {one.id for one in claims}


def two_machines(rates, site):
    """Cells of a site by which the ledger compares GPUs with nodes: samples/s by repeat."""
    more = {"site": site, "dataset": "infinite-mnist", "model": "vgg16", "nodes": 8, "batch_size": 512}
    rows = [cell("bnn", repeat, 1.0, throughput_steady=rate, **more) for repeat, rate in enumerate(rates, 1)]
    return cells(*rows)


def test_two_machines_are_judged_by_the_tables_of_both():
    gpus, nodes = two_machines([2900, 2960, 2930], "dgx"), two_machines([100, 102, 101], "theta")
    judged = {row["id"]: row for row in claim_rows(load_ledger(), gpus, [nodes])}["gpu-knl-throughput-bnn"]
    assert judged["ours"] == pytest.approx(29.0, rel=0.001)
    assert judged["verdict"] == "agrees"
    names = judged["cells"].split("; ")
    assert sorted({name.partition("/")[0] for name in names}) == ["dgx", "theta"]
    from_the_other = {row["id"]: row for row in claim_rows(load_ledger(), nodes, [gpus])}["gpu-knl-throughput-bnn"]
    assert (from_the_other["ours"], from_the_other["cells"]) == (judged["ours"], judged["cells"])
    alone = {row["id"]: row for row in claim_rows(load_ledger(), gpus)}["gpu-knl-throughput-bnn"]
    assert alone["verdict"] == "not tested"


@pytest.mark.parametrize(("gpus", "verdict"), [(0.95, "agrees"), (0.80, "differs")])
def test_better_efficiency_is_no_matter_of_speed(gpus, verdict):
    """GPUs of 29 times the throughput of a node, with this efficiency per doubling, beside nodes with 0.90."""

    def scaled(site, first, efficiency):
        more = {"site": site, "dataset": "infinite-mnist", "model": "vgg16", "batch_size": 512}
        rates = {(repeat, doubled): first * noise * (2 * efficiency) ** doubled
                 for repeat, noise in enumerate((1, 1.01, 0.99), 1) for doubled in range(4)}  # fmt: skip
        return cells(*[
            cell("bnn", repeat, 1.0, nodes=2**doubled, throughput_steady=rate, **more)
            for (repeat, doubled), rate in rates.items()
        ])  # fmt: skip

    judged = claim_rows(load_ledger(), scaled("dgx", 2900, gpus), [scaled("theta", 100, 0.90)])
    row = next(row for row in judged if row["id"] == "gpus-scale-better")
    assert row["ours"] == pytest.approx(gpus / 0.90)
    assert row["verdict"] == verdict


@pytest.mark.parametrize(
    ("change", "verdict"),
    [({}, "agrees"), ({"epochs_completed": 2}, "not tested"), ({"attempts": 2}, "not tested")],
)
def test_a_time_of_64_epochs_is_of_64_epochs_in_one_attempt(change, verdict):
    more = {"site": "theta", "dataset": "cifar10", "model": "vgg16", "nodes": 128, "batch_size": 256, "attempts": 1,
            "epochs_completed": 64} | change  # fmt: skip
    rows = [
        cell("bnn", repeat, 1.0, seconds_total=seconds, **more) for repeat, seconds in enumerate((202, 203, 201), 1)
    ]
    judged = {row["id"]: row for row in claim_rows(load_ledger(), cells(*rows))}["time-64-epochs-vgg16-bnn"]
    assert judged["verdict"] == verdict, judged["reason"]


@pytest.mark.parametrize(("dense", "verdict"), [(0.93, "agrees"), (0.975, "differs")])
def test_what_prunes_better_loses_less_of_what_it_had(dense, verdict):
    """Of 0.92 the convolutional network keeps 0.90; of 0.98 the dense one this much: always more than the other has."""
    shared = {"site": "here", "dataset": "mnist", "kind": "bnn", "nodes": 1, "batch_size": 100, "variant": "base",
              "by": "weight", "scope": "global", "semantics": "zero", "percent_asked": 80.0, "verdict": "OK",
              "status": "OK", "width": 1.0, "implementation": "bnn-flipout"}  # fmt: skip
    rows = [
        dict.fromkeys(SCHEMAS["pruning"].names) | shared
        | {"model": model, "repeat": repeat, "accuracy": left + noise, "accuracy_unpruned": had + noise}
        for model, had, left in (("conv", 0.92, 0.90), ("fc", 0.98, dense))
        for repeat, noise in enumerate((0, 0.001, -0.001), 1)
    ]  # fmt: skip
    table = pd.DataFrame(rows)
    row = {each["id"]: each for each in claim_rows(load_ledger(), {"pruning": table})}["conv-prunes-more-robustly"]
    assert row["ours"] == pytest.approx(0.90 / 0.92 / (dense / 0.98), rel=1e-3)
    assert row["verdict"] == verdict
    table["accuracy_unpruned"] = 0.0
    row = {each["id"]: each for each in claim_rows(load_ledger(), {"pruning": table})}["conv-prunes-more-robustly"]
    assert row["verdict"] == "not comparable"


def test_sites_beside_count_for_no_claim_that_names_none():
    own, other = pairs(0.5, 0.51), pairs(0.9, 0.91, site="elsewhere")
    assert claim_rows(ledger(), own, [other]) == claim_rows(ledger(), own)


def test_another_site_whose_table_cannot_be_read_is_left_out_with_a_line(tmp_path, capsys):
    good, bad = (tmp_path / site / "tables" / "cells.parquet" for site in ("theta", "dgx"))
    write_table(two_machines([100, 102], "theta")["cells"], good, SCHEMAS["cells"])
    bad.parent.mkdir(parents=True)
    bad.write_bytes(b"PAR1")
    (read,) = read_others([str(bad), str(good)])
    assert set(read["cells"]["site"]) == {"theta"}
    assert "site dgx is left out: " in capsys.readouterr().err


def test_other_machines_than_the_publications_do_not_serve_where_it_names_its_own():
    gpus, nodes = two_machines([2900, 2960], "workstation"), two_machines([100, 102], "theta")
    judged = {row["id"]: row for row in claim_rows(load_ledger(), gpus, [nodes])}["gpu-knl-throughput-bnn"]
    assert judged["verdict"] == "not tested"


def test_the_papers_ledger_on_a_small_campaign():
    rows = claim_rows(load_ledger(), built_campaign()[1])
    by_id = {row["id"]: row for row in rows}
    assert len(by_id) == len(load_ledger().claims)
    assert {row["verdict"] for row in rows} <= set(VERDICTS)
    assert by_id["slip-42k"]["verdict"] == "differs"
    assert by_id["slip-42k"]["ours"] == pytest.approx(21.35, abs=0.01)
    assert by_id["flop-rate-vgg16-cnn"]["verdict"] == "not tested"
    assert by_id["time-64-epochs-vgg16-bnn"]["verdict"] == "not tested"
    assert not any(row["verdict"] in ("agrees", "holds here") and not row["cells"] for row in rows)


@given(st.integers(3, 10**6), st.integers(-2, 2))
def test_arithmetic_alone_disproves_a_claim_and_never_makes_one_agree(printed, off):
    computed = printed + off
    of = {"function": "arithmetic", "product": [f"={computed}"]}
    said = verdict({}, type="count", scope="anywhere", margin=0, printed={"value": str(printed)}, expression=of)
    assert said.verdict == ("differs" if off else "not tested")
    assert off or "no cell was measured" in said.reason


def test_the_command_prints_every_claim_and_names_a_table_that_is_not_there(tmp_path):
    site = tmp_path / "local" / "tables"
    options = ["claims", "--profile", "profiles/local", "--results", str(tmp_path)]
    missing = CliRunner().invoke(cli, options)
    assert isinstance(missing.exception, UserError)
    assert "claims.parquet: no claim was judged yet" in str(missing.exception)
    write_table(frame(claim_rows(load_ledger(), {}), CLAIMS), site / "claims.parquet", CLAIMS)
    done = CliRunner().invoke(cli, options)
    assert done.exit_code == 0, done.output
    assert "slip-42k" in done.output
    assert load_ledger().sha256[:12] in done.output
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == ["claims.parquet"]


def test_a_printed_range_is_from_its_ends():
    given = printed({"low": "5", "high": "12"})
    assert (given.low, given.high) == (4.5, 12.5)
    assert LEDGER.name == "sharma2020.yaml"


@pytest.mark.parametrize("path", sorted(LEDGER.parent.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_ledger_of_the_project_is_read_and_judged(path, tmp_path):
    checked = CliRunner().invoke(cli, ["claims", "check", str(path)])
    assert checked.exit_code == 0, checked.output
    assert f"{len(load_ledger(path).claims)} claims (" in checked.output
    options = ["claims", "--profile", "profiles/local", "--results", str(tmp_path), "--ledger", str(path)]
    done = CliRunner().invoke(cli, options)
    assert done.exit_code == 0, done.output
    assert load_ledger(path).sha256[:12] in done.output
    assert not list(tmp_path.iterdir())


def test_a_ledger_is_judged_by_the_tables_as_they_are(tmp_path):
    tables = tmp_path / "local" / "tables"
    times = [cell("bnn", r, 1.0, variant="ivon", implementation="bnn-ivon", step_seconds=1.02) for r in (1, 2, 3)]
    times += [cell("cnn", r, 1.0, variant="base", implementation="cnn", step_seconds=1 + r / 1e3) for r in (1, 2, 3)]
    write_table(cells(*times)["cells"], tables / "cells.parquet", SCHEMAS["cells"])
    options = ["claims", "--profile", "profiles/local", "--results", str(tmp_path), "--json"]
    done = CliRunner().invoke(cli, [*options, "--ledger", str(LEDGER.with_name("shen2024.yaml"))])
    assert done.exit_code == 0, done.output
    found = {row["id"]: row for row in json.loads(done.output)}
    assert found["cost-as-of-adam"]["verdict"] == "holds here"
    assert found["cost-as-of-adam"]["ours"] == pytest.approx(1.018, abs=1e-3)
    assert found["better-uncertainty"]["verdict"] in ("not tested", "not comparable")


def test_a_ledger_with_a_mistake_is_one_line_with_the_claim_and_exit_code_2(tmp_path):
    given = content()
    given["claims"][0]["expression"]["of"] = {"table": "cells", "column": "step_second"}
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(given))
    done = CliRunner().invoke(cli, ["claims", "check", str(path)])
    assert isinstance(done.exception, UserError)
    said = "mine.yaml: claim half: expression.of: table cells has no column step_second, did you mean step_seconds?"
    assert said in str(done.exception)


def test_a_number_that_is_not_printed_is_shown_as_implied(tmp_path):
    row = {row["id"]: row for row in claim_rows(load_ledger(), {})}
    assert words_of(row["slip-doubled-kl"], str) == "1.0 (implied)"
    assert words_of(row["slip-42k"], str) == "42.0"
    given = content()
    given["claims"][0]["printed"] = {"implied": True}
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(given))
    with pytest.raises(UserError, match="claim half: printed: has no value, nor low and high"):
        load_ledger(path)


@pytest.mark.parametrize(
    ("everywhere", "said"),
    [
        ({"widht": 0.25}, "everywhere: widht: no table has such a column; did you mean width?"),
        ({"width": True}, "everywhere: width: True is neither text nor a number"),
        ({"kind": {"a": 1}}, "everywhere: kind: {'a': 1} is neither text nor a number"),
    ],
)
def test_a_filter_of_all_cells_is_of_columns_that_there_are(tmp_path, everywhere, said):
    path = tmp_path / "ledger.yaml"
    path.write_text(yaml.safe_dump(content() | {"everywhere": everywhere}))
    with pytest.raises(UserError, match=re.escape(f"{path}: everywhere: ")) as error:
        load_ledger(path)
    assert said.partition(";")[0] in str(error.value)
