from campaign.results.figures.script import main

main("fig4b", snakemake)  # noqa: F821  # Snakemake defines it
