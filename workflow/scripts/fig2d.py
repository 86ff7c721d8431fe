from campaign.results.figures.script import main

main("fig2d", snakemake)  # noqa: F821  # Snakemake defines it
