from campaign.results.script_support import run

run("campaign.results.report.script", snakemake)  # noqa: F821  # Snakemake defines it
