"""The command `campaign export`."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), help="Folder to write, or FILE.zip.")
@click.option("--license", "license_", required=True, help="Licence of the data: SPDX identifier (CC-BY-4.0) or URL.")
@click.option("--author", "authors", multiple=True, metavar="NAME or NAME=ORCID", help="May be given several times.")
@click.option("--name", help="Title. [default: of campaign and site]")
@click.option("--description", help="What it is. [default: of campaign and site]")
@click.option("--code", default="", metavar="URL", help="Where the program's code lies, as of the revision that ran.")
@click.option("--records", is_flag=True, help="Also the records that tables are made from (without posteriors).")
def export(
    folder: Path, out: Path, license_: str, authors: tuple[str, ...], name: str | None, description: str | None,
    code: str, records: bool,
) -> None:  # fmt: skip
    """Write the results in FOLDER (results/local) as an RO-Crate: to publish, archive or hand on.

    Plan, tables, figures, report, job scripts and settings, checksums of data sets, the ledger of claims; each with its
    size, sha256 and media type, and the software that ran. Host names and paths in these are part of it.
    `campaign validate CRATE` checks the hashes (docs/validate.md).
    """
    from campaign.plan.read import read_plan
    from campaign.results.compare.folder import site_layout
    from campaign.results.crate.describe import About, address_of, author_of, license_of
    from campaign.results.crate.write import write_crate

    license_of(license_)
    address_of(code)
    people = tuple(author_of(each) for each in authors)
    layout = site_layout(folder)
    plan = read_plan(layout.plan)
    title = f"campaign {plan['campaign']} on {plan['site'].get('title') or plan['site']['name']}"
    about = About(
        license_, name or title, description or f"Results of {title}: plan, tables, figures, report.", people, code
    )
    written = write_crate(layout, out, about, records)
    click.echo(f"{out}: {len(written)} files", err=True)
