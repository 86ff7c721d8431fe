from campaign.results.steps.common import run

run("campaign.results.steps.figure", snakemake)  # noqa: F821  # Snakemake defines it
