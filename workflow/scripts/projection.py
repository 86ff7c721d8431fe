from campaign.results.steps.common import run

run("campaign.results.steps.projection", snakemake)  # noqa: F821  # Snakemake defines it
