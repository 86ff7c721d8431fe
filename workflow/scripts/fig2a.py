from campaign.results.figures.script import main

main("fig2a", snakemake)  # noqa: F821  # Snakemake defines it
