from campaign.results.steps.common import run

run("campaign.results.steps.claims", snakemake)  # noqa: F821  # Snakemake defines it
