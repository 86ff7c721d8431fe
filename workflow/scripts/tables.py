from campaign.results.tables.script import main

main(snakemake)  # noqa: F821  # Snakemake defines it
