from campaign.results.figures.script import main

main("fig6c", snakemake)  # noqa: F821  # Snakemake defines it
