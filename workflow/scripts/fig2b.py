from campaign.results.figures.script import main

main("fig2b", snakemake)  # noqa: F821  # Snakemake defines it
