from campaign.results.figures.script import main

main("fig8", snakemake)  # noqa: F821  # Snakemake defines it
