from campaign.results.figures.script import main

main("fig7c", snakemake)  # noqa: F821  # Snakemake defines it
