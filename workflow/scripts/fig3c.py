from campaign.results.figures.script import main

main("fig3c", snakemake)  # noqa: F821  # Snakemake defines it
