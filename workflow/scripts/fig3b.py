from campaign.results.figures.script import main

main("fig3b", snakemake)  # noqa: F821  # Snakemake defines it
