from campaign.figures.script import main

main("fig2c", snakemake)  # noqa: F821  # Snakemake defines it
