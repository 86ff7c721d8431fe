from campaign.results.figures.script import main

main("fig9a", snakemake)  # noqa: F821  # Snakemake defines it
