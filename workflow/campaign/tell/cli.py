"""The command `campaign`: questions about a campaign. Running it is Snakemake's business."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click
from click.shell_completion import CompletionItem

from bnn.errors import UserError
from campaign.names.layout import RESULTS
from campaign.run.driver import Driver, look, site_here
from campaign.tell.compare import compare
from campaign.tell.export import export
from campaign.tell.project import project
from campaign.tell.terminal import console as _console
from campaign.tell.validate import validate


class ProfilePath(click.Path):
    """A site's folder; those of profiles/ are completed."""

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        found = [str(path.parent) for path in sorted(Path("profiles").glob("*/site.yaml"))]
        return [CompletionItem(path) for path in found if path.startswith(incomplete)] or super().shell_complete(
            ctx, param, incomplete
        )


class SiteName(click.ParamType):
    """Name of a site, or a path."""

    name = "site"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        if os.sep in incomplete:
            return [CompletionItem(incomplete, type="dir")]
        found = [path.parent.name for path in sorted(Path("profiles").glob("*/site.yaml"))]
        return [CompletionItem(name) for name in found if name.startswith(incomplete)]


class CellName(click.ParamType):
    """A cell; those whose settings have been written are completed, or files where a path begins."""

    name = "cell"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        if os.sep in incomplete:
            return [CompletionItem(incomplete, type="file")]
        names = {path.stem for path in Path(ctx.params.get("results") or RESULTS).glob("*/jobs/[!.]*.json")}
        return [CompletionItem(name) for name in sorted(names) if name.startswith(incomplete)]


profile_option = click.option(
    "--profile",
    type=ProfilePath(path_type=Path),
    default=Path("profiles/local"),
    envvar=["CAMPAIGN_PROFILE", "SNAKEMAKE_PROFILE"],
    show_default=True,
    show_envvar=True,
    help="Folder with the site's site.yaml, or that file.",
)
campaign_option = click.option(
    "--campaign", "campaign_file", type=click.Path(path_type=Path), default=Path("config.yaml"), show_default=True,
    help="Campaign file.",
)  # fmt: skip
results_option = click.option(
    "--results", type=click.Path(path_type=Path), default=Path(RESULTS), show_default=True, help="Results folder."
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """Ask about a campaign; run it with: snakemake --profile profiles/SITE all_figures"""


@cli.command()
@profile_option
@campaign_option
@results_option
def plan(profile: Path, campaign_file: Path, results: Path) -> None:
    """Cells, the jobs after them, node-hours and scripts. Writes the scripts for reading, runs nothing."""
    from campaign.run.live import told
    from campaign.run.readiness import refusal, uncut
    from campaign.tell.after_table import after_table
    from campaign.tell.plan_table import plan_table

    driver = look(profile, campaign_file, results)
    if not driver.busy:
        driver.make_ready()
    said = [driver.notice] if driver.busy else [driver.elsewhere, uncut(driver.campaign), told(driver.lingering)]
    for line in filter(None, said):
        click.echo(line, err=True)
    table, totals = plan_table(driver.campaign, driver.layout)
    console = _console(170 if driver.campaign.site.scheduler.kind == "none" else 230)
    console.print(table)
    console.print(totals, highlight=False)
    if jobs := after_table(driver.campaign, driver.layout):
        console.print(jobs)
    if why := refusal(driver.campaign):
        raise UserError(why)


@cli.command()
@profile_option
@campaign_option
@results_option
def status(profile: Path, campaign_file: Path, results: Path) -> None:
    """Where the campaign stands: cells by state, progress of those that run, estimated end. Asks no scheduler."""
    from rich.text import Text

    from campaign.plan.campaign import load_campaign
    from campaign.render.scripts import Place
    from campaign.run.live import of_other_settings, told
    from campaign.tell.spent import spent, spent_line
    from campaign.tell.status import status as states
    from campaign.tell.status import status_table

    site, elsewhere = site_here(profile, results)
    if elsewhere:
        click.echo(elsewhere, err=True)
    layout = site.layout(results)
    place = Place.here(layout)
    campaign = load_campaign(campaign_file, site, place.data_dir)
    table, totals = status_table(states(campaign, layout))
    console = _console()
    if table.row_count:
        console.print(table)
    console.print(Text(totals))
    if line := told(of_other_settings(campaign, layout, place)):
        console.print(Text(line))
    if line := spent_line(spent(campaign, layout)):
        console.print(Text(line))


@cli.command()
@click.argument("cell", type=CellName())
@profile_option
@campaign_option
@results_option
def why(cell: str, profile: Path, campaign_file: Path, results: Path) -> None:
    """Why CELL would run, or why it is WARN or INVALID.

    CELL is its folder (or a file in it), its name, or enough of its identity: kind=bnn,nodes=2,batch=32,... The name of
    another job's script, without .sh, asks of that job.
    """
    from campaign.tell.why import find_job
    from campaign.tell.why import why as answer

    driver = _look(profile, campaign_file, results)
    job = find_job(driver.campaign, driver.layout, cell)
    click.echo(f"{job.name}: " + "\n".join(answer(job, driver.layout)))


@cli.command()
@click.argument("cell", type=CellName())
@profile_option
@campaign_option
@results_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object per part: rows of table losses.")
def losses(cell: str, profile: Path, campaign_file: Path, results: Path, as_json: bool) -> None:
    """Where each second of a step goes, by the records of all repeats of CELL, beside the other kind's. Reads only.

    CELL is named as in campaign why.
    """
    from campaign.tell.losses import losses_of, losses_table
    from campaign.tell.why import find_cell

    driver = _look(profile, campaign_file, results)
    asked = find_cell(driver.campaign, driver.layout, cell).cell
    points, cells = losses_of(driver.campaign, driver.layout, asked)
    if as_json:
        click.echo(points.to_json(orient="records", indent=1))
        return
    table, said = losses_table(points, cells)
    _console().print(table)
    click.echo("\n".join(said))


@cli.command()
@click.argument("name", metavar="SITE", type=SiteName())
@results_option
@click.option("--json", "as_json", is_flag=True, help="Sentences with the exact values in them, by question.")
def summary(name: str, results: Path, as_json: bool) -> None:
    """What the campaign on SITE asked and found, what limits it, how far to trust it, what is not measured.

    SITE is a site's folder below the results folder, or its profile's path. Reads plan and tables only.
    """
    import json

    from campaign.tell import summary_text

    answers = summary_text.of_site(results, site_here(Path(name), results)[0].name if os.sep in name else name)
    if as_json:
        click.echo(json.dumps(summary_text.as_json(answers), indent=1))
        return
    console = _console(100)
    for line in summary_text.as_text(answers, min(console.width, 120)):
        console.print(line, soft_wrap=True)


@cli.command()
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="One JSON object per profile.")
def mpi_profile(files: tuple[Path, ...], as_json: bool) -> None:
    """What MPI profiles tell: routines, message sizes, control apart from data.

    FILE: mpi_profile.* of mpitrace/HPCTW or of this project's interposer (text or Parquet), or a report of mpiP.
    """
    import json

    from campaign.results.mpi import parse_all, profile_json
    from campaign.results.mpi.show import show

    if as_json:
        click.echo(json.dumps(profile_json(files), indent=1))
        return
    show(parse_all(files), _console())


cli.add_command(project)


@cli.group(invoke_without_command=True)
@profile_option
@results_option
@click.option("--ledger", type=click.Path(path_type=Path), help="Judge this ledger by the tables as they are, instead.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per claim, with reasons.")
@click.pass_context
def claims(context: click.Context, profile: Path, results: Path, ledger: Path | None, as_json: bool) -> None:
    """What a paper claims and what became of it here, by the last table `claims` or by a ledger. Reads only."""
    if context.invoked_subcommand:
        return
    from campaign.tell.claims_table import claims_table, judged_now, last_judged, totals

    here, _ = site_here(profile, results)
    layout = here.layout(results)
    found = judged_now(ledger, layout) if ledger else last_judged(layout, profile)
    if as_json:
        click.echo(found.to_json(orient="records", indent=1))
        return
    console = _console()
    console.print(claims_table(found))
    console.print(totals(found), highlight=False, markup=False)


@claims.command("check")
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=click.Path(path_type=Path))
def check_ledgers(files: tuple[Path, ...]) -> None:
    """Check ledgers of claims: keys, names of tables and columns, what each type needs. Judges nothing."""
    from campaign.results.claims.ledger import load_ledger
    from campaign.tell.claims_table import described

    for path in files:
        click.echo(f"{path}: {described(load_ledger(path))}")


cli.add_command(compare)
cli.add_command(validate)
cli.add_command(export)


@cli.group()
def site() -> None:
    """Sites: profiles/SITE/site.yaml."""


@site.command()
@click.argument("name", type=SiteName())
@campaign_option
@results_option
@click.option("--run", "and_run", is_flag=True, help="Try one node as well, in at most 10 minutes.")
def check(name: str, campaign_file: Path, results: Path, and_run: bool) -> None:
    """Say what is wrong with site NAME (a folder below profiles, or a path) and its grid.

    With --run, `bnn check` then tries one of its nodes (numbers, ranks, GPUs, NCCL, energy) with the site's environment
    and launcher: here where the site has no scheduler, else by a script that you submit. Its table and its file are
    what to send to whoever may help (bnn check --help says what is in it).
    """
    from campaign.plan.campaign import load_campaign
    from campaign.run.readiness import uncut
    from campaign.site.site import load_site

    folder = Path(name) if os.sep in name else Path("profiles") / name
    found = load_site(folder)
    campaign = load_campaign(campaign_file, found)
    if line := uncut(campaign):
        click.echo(line, err=True)
    click.echo(f"{found.origin}: fine; {len(campaign.cells)} cells of campaign {campaign.name}")
    if and_run:
        from campaign.render.scripts import Place
        from campaign.run.site_check import run_or_render

        here, _ = site_here(folder, results)
        layout = here.layout(results)
        code, lines = run_or_render(here, layout, Place.here(layout))
        click.echo("\n".join(lines), nl=bool(lines))
        sys.exit(code)


def _look(profile: Path, campaign_file: Path, results: Path) -> Driver:
    driver = look(profile, campaign_file, results)
    if driver.notice:
        click.echo(driver.notice, err=True)
    return driver


def main() -> None:
    """Entry point. A user's mistake is one line on stderr and exit code 2."""
    try:
        cli(standalone_mode=True)
    except UserError as error:
        click.echo(f"campaign: {error}", err=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
