from campaign.results.steps.common import run

run("campaign.results.steps.tables", snakemake)  # noqa: F821  # Snakemake defines it
