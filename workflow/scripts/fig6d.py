from campaign.results.figures.script import main

main("fig6d", snakemake)  # noqa: F821  # Snakemake defines it
