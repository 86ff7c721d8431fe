from campaign.results.figures.script import main

main("fig1", snakemake)  # noqa: F821  # Snakemake defines it
