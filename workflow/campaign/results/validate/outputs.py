"""Faults of what is made from tables: figures and the report that are not there or not whole, the ledger of claims."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from bnn.errors import UserError
from bnn.records.columns import read_table
from bnn.regular import file_sha256
from campaign.names.layout import Layout
from campaign.results.claims.ledger import LEDGER
from campaign.results.figures.catalogue import FIGURES, available
from campaign.results.figures.sites import OtherSite
from campaign.results.tables.claims import CLAIMS

PNG = b"\x89PNG\r\n\x1a\n", b"IEND\xaeB`\x82"  # how such a file begins and ends


def output_faults(layout: Layout, plan: Mapping[str, Any], others: Sequence[OtherSite]) -> Iterator[str]:
    """A line per figure that the plan provides for and that is not there or damaged, and for the report.

    `others` are the sites beside this one, which figures may compare with.
    """
    wanted = available(dict(plan), others)
    for name in FIGURES:
        svg, png = layout.figure(name, "svg"), layout.figure(name, "png")
        if name not in wanted and not (svg.exists() or png.exists()):
            continue
        yield from (f"{path}: no such file" for path in (svg, png) if not path.exists())
        if svg.exists() and (why := _not_svg(svg)):
            yield f"{svg}: no whole SVG image ({why})"
        if png.exists() and not _is_png(png):
            yield f"{png}: no whole PNG image"
    if not layout.report.exists():
        yield f"{layout.report}: no such file"
    elif not layout.report.read_bytes().rstrip().endswith(b"</html>"):
        yield f"{layout.report}: no whole page"


def _not_svg(path: Path) -> str:
    """Why a file is no SVG image; empty where it is one. Entities are refused: ours have none."""
    content = path.read_bytes()
    if b"<!ENTITY" in content:
        return "it declares entities"
    try:
        root = ElementTree.fromstring(content)
    except ElementTree.ParseError as error:
        return str(error)
    return "" if root.tag == "{http://www.w3.org/2000/svg}svg" else f"its root is {root.tag}"


def _is_png(path: Path) -> bool:
    content = path.read_bytes()
    return content.startswith(PNG[0]) and content.endswith(PNG[1])


def ledger_of(layout: Layout) -> tuple[Path | None, list[str]]:
    """The ledger by which the claims were judged, if it lies here with the same content; then what is wrong."""
    path = layout.table(CLAIMS.name)
    try:
        rows = read_table(path, CLAIMS)
    except UserError:  # said of the table already
        return None, []
    if rows.empty:
        return None, []
    name, digest = rows["ledger"].iloc[0], rows["ledger_sha256"].iloc[0]
    if not isinstance(name, str) or not isinstance(digest, str):
        return None, [f"{path}: column ledger or ledger_sha256: empty"]
    file = LEDGER.with_name(f"{name}.yaml")
    if Path(name).name != name or not file.is_file():
        return None, [f"{path}: judged by ledger {name}, which is not in {LEDGER.parent}"]
    if (found := file_sha256(file)) != digest:
        return None, [f"{path}: judged by ledger {name} with sha256 {digest[:12]}, {file} has {found[:12]} now"]
    return file, []
