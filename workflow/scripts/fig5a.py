from campaign.results.figures.script import main

main("fig5a", snakemake)  # noqa: F821  # Snakemake defines it
