from campaign.results.figures.script import main

main("fig7d", snakemake)  # noqa: F821  # Snakemake defines it
