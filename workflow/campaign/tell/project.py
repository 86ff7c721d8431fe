"""The command `campaign project`: values at scales that were not measured, apart from all that were."""

from __future__ import annotations

import os
from pathlib import Path

import click

from campaign.names.layout import RESULTS, Layout


@click.group(invoke_without_command=True)
@click.option(
    "--allreduce", type=click.Path(path_type=Path), metavar="FILE",
    help="Measured times: CSV with columns node,library,nodes,ranks,bytes,microseconds, in order of ranks and bytes. "
    " [required]",
)  # fmt: skip
@click.option("--ranks", help="Rank counts to project to, as in 32,64,128: beyond those measured.  [required]")
@click.option("--out", type=click.Path(path_type=Path), help="Parquet table to write.  [required]")
@click.pass_context
def project(context: click.Context, allreduce: Path | None, ranks: str | None, out: Path | None) -> None:
    """Times at rank counts that were not measured, with 95% prediction intervals, and where there can be none.

    docs/projection.md says what the model is and how far off it was where measurements were held out. Steps and
    efficiency of a site's cells: campaign project cells SITE.
    """
    given = {"allreduce": allreduce, "ranks": ranks, "out": out}
    if context.invoked_subcommand:
        for name, value in given.items():
            if value is not None:
                raise click.UsageError(f"--{name} belongs after {context.invoked_subcommand}", context)
        return
    if allreduce is None or ranks is None or out is None:
        missing = next(name for name, value in given.items() if value is None)
        wanted = next(parameter for parameter in project.params if parameter.name == missing)
        raise click.MissingParameter(ctx=context, param=wanted)
    from campaign.tell.projection import project_allreduce

    for line in project_allreduce(allreduce, ranks, out):
        click.echo(line, err=True)


@project.command()
@click.argument("site", metavar="SITE")
@click.option(
    "--results", type=click.Path(path_type=Path), default=Path(RESULTS), show_default=True, help="Results folder."
)
@click.option("--fabric", help="Network by name: its published constants are assumed.")
@click.option("--fabrics", type=click.Path(path_type=Path), help="File of networks, in place of those that are known.")
@click.option(
    "--allreduce", type=click.Path(path_type=Path), metavar="FILE",
    help="Measured times of allreduces, in place of a fabric, as for campaign project.",
)  # fmt: skip
@click.option("--node", help="Kind of node in that file.")
@click.option("--library", help="Library in that file.")
@click.option(
    "--elsewhere", is_flag=True,
    help="The cells ran on another network than this one: their larger scales do not tell how far off it is.",
)  # fmt: skip
@click.option("--nodes", help="Numbers of nodes, as in 16,64,256.  [default: powers of two to 16384]")
@click.option("--target-efficiency", type=float, metavar="E", help="Say up to how many nodes efficiency is E or more.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Parquet table to write.")
@click.option("--json", "as_json", is_flag=True, help="Rows of the table, and answers to the target.")
def cells(
    site: str,
    results: Path,
    fabric: str | None,
    fabrics: Path | None,
    allreduce: Path | None,
    node: str | None,
    library: str | None,
    elsewhere: bool,
    nodes: str | None,
    target_efficiency: float | None,
    out: Path,
    as_json: bool,
) -> None:
    """Seconds of a step, throughput and efficiency of the cells of SITE at numbers of nodes that were not run.

    SITE is a site's folder below the results folder, or its profile's path. What is written is projected, and never
    enters its tables. docs/projection.md says what is assumed, and what was not validated yet.
    """
    from campaign.results.projection.fabrics import BUILT_IN
    from campaign.run.driver import site_here
    from campaign.tell import project_cells
    from campaign.tell.project_table import family_tables
    from campaign.tell.terminal import console

    question = project_cells.Question(
        nodes=project_cells.counts(nodes or project_cells.NODES),
        fabric=fabric,
        fabrics=fabrics or BUILT_IN,
        allreduce=allreduce,
        node=node,
        library=library,
        target=target_efficiency,
        elsewhere=elsewhere,
    )
    name = site_here(Path(site), results)[0].name if os.sep in site else site
    told = project_cells.project_cells(Layout(results, name), question, out)
    if as_json:
        click.echo(project_cells.as_json(told, target_efficiency))
    else:
        for table in family_tables(told.rows):
            console().print(table)
        for family, found in told.answers:
            assert target_efficiency is not None
            click.echo("\n".join(project_cells.answer_lines(family, found, target_efficiency)))
    for line in told.said:
        click.echo(line, err=True)
