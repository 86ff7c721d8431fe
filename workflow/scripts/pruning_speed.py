from campaign.results.figures.script import main

main("pruning_speed", snakemake)  # noqa: F821  # Snakemake defines it
