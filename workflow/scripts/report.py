from campaign.results.report.script import main

main(snakemake)  # noqa: F821  # Snakemake defines it
