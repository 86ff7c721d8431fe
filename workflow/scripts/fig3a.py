from campaign.results.figures.script import main

main("fig3a", snakemake)  # noqa: F821  # Snakemake defines it
