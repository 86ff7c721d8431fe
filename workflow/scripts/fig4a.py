from campaign.results.figures.script import main

main("fig4a", snakemake)  # noqa: F821  # Snakemake defines it
