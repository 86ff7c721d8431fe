from campaign.report.script import main

main(snakemake)  # noqa: F821  # Snakemake defines it
