from campaign.results.figures.script import main

main("fig6a", snakemake)  # noqa: F821  # Snakemake defines it
