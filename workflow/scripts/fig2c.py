from campaign.results.figures.script import main

main("fig2c", snakemake)  # noqa: F821  # Snakemake defines it
