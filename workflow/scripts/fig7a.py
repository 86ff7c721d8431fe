from campaign.results.figures.script import main

main("fig7a", snakemake)  # noqa: F821  # Snakemake defines it
