from campaign.results.figures.script import main

main("fig7b", snakemake)  # noqa: F821  # Snakemake defines it
