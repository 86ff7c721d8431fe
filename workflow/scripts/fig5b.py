from campaign.results.figures.script import main

main("fig5b", snakemake)  # noqa: F821  # Snakemake defines it
