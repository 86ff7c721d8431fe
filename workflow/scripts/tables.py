from campaign.results.script_support import run

run("campaign.results.tables.script", snakemake)  # noqa: F821  # Snakemake defines it
