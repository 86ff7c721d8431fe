from campaign.results.figures.script import main

main("fig9b", snakemake)  # noqa: F821  # Snakemake defines it
