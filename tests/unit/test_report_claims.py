"""The report's part on claims: each on the page once, its verdict and its cells beside it, nothing unescaped."""

from __future__ import annotations

from html.parser import HTMLParser

import pandas as pd
import pytest

from campaign.results.claims.judge import NOT_TESTED, VERDICTS
from campaign.results.claims.ledger import load_ledger
from campaign.results.claims.rows import claim_rows
from campaign.results.report.cells import anchor
from campaign.results.report.claims import LOOKS, OPEN, by_name
from campaign.results.report.page import render
from campaign.results.tables.build import frame
from campaign.results.tables.claims import CLAIMS
from tests.support.cells import built_campaign


def claims_with(*verdicts: str, **changes: str) -> pd.DataFrame:
    """Claims of the ledger that was never tested, made into ones with these verdicts, each on all cells."""
    tables = built_campaign()[1]
    rows = claim_rows(load_ledger(), {})[: len(verdicts)]
    names = "; ".join(sorted(by_name(tables["cells"])))
    made = [row | {"verdict": verdict, "cells": names, "ours": 1.5, "low": 1.2, "high": 1.9} | changes
            for row, verdict in zip(rows, verdicts, strict=True)]  # fmt: skip
    return frame(made, CLAIMS)


class Rows(HTMLParser):
    """The text and the links of each row whose id begins with claim-, and all ids of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.rows: dict[str, str] = {}
        self.links: dict[str, list[str]] = {}
        self.ids: list[str] = []
        self.open = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if name := found.get("id"):
            self.ids.append(name)
        if tag == "tr":
            self.open = name if name and name.startswith("claim-") else ""
            if self.open:
                self.rows[self.open], self.links[self.open] = "", []
        if tag == "a" and self.open:
            self.links[self.open].append(str(found["href"]).removeprefix("#"))

    def handle_endtag(self, tag: str) -> None:
        self.open = "" if tag == "tr" else self.open

    def handle_data(self, data: str) -> None:
        if self.open:
            self.rows[self.open] += data


def page_with(claims: pd.DataFrame) -> str:
    plan, tables = built_campaign()
    return render(plan, tables | {"claims": claims}, {})


def test_every_claim_of_the_ledger_is_on_the_page_with_its_verdict_or_the_reason() -> None:
    claims = frame(claim_rows(load_ledger(), built_campaign()[1]), CLAIMS)
    page = page_with(claims)
    found = Rows(page)
    assert sorted(found.rows) == sorted(f"claim-{name}" for name in claims["id"])
    assert len(found.ids) == len(set(found.ids))
    for row in claims.to_dict("records"):
        said = found.rows[f"claim-{row['id']}"]
        assert row["statement"] in said
        assert row["reason"] in said
        assert row["verdict"] in OPEN or row["verdict"] in said
    counts = claims["verdict"].value_counts()
    assert f"in the ledger <code>{claims['ledger'].iloc[0]}</code>: " in page
    assert f"Of {len(claims)} claims in the ledger {claims['ledger'].iloc[0]}: " in page
    assert all(f"{count} {verdict}" in page for verdict, count in counts.items())
    assert not any(word in " ".join(found.rows.values()).split() for word in ("nan", "None", "inf"))


@pytest.mark.parametrize("verdict", [name for name in VERDICTS if name not in OPEN])
def test_a_verdict_leads_to_the_cells_that_it_rests_on(verdict: str) -> None:
    claims = claims_with(verdict, NOT_TESTED)
    found = Rows(page_with(claims))
    first, second = (f"claim-{name}" for name in claims["id"])
    assert sorted(found.links[first]) == sorted(map(anchor, by_name(built_campaign()[1]["cells"]).values()))
    assert set(found.links[first]) <= set(found.ids)
    assert not found.links[second]
    assert "1.2 to 1.9" in found.rows[first]
    assert verdict in LOOKS


def test_what_a_ledger_says_is_escaped_and_a_cell_that_is_gone_is_named() -> None:
    attack = "<img src=x onerror=alert(1)>"
    claims = claims_with("agrees", statement=attack, reason=attack, cells="gone_cell_r1")
    page = page_with(claims)
    assert attack not in page
    found = Rows(page)
    (name,) = found.rows
    assert attack in found.rows[name]
    assert "gone_cell_r1" in found.rows[name]
    assert not found.links[name]


def test_without_a_ledger_the_page_says_so() -> None:
    plan, tables = built_campaign()
    assert "No ledger of claims was judged." in render(plan, tables, {})
