from campaign.results.figures.script import main

main("fig6b", snakemake)  # noqa: F821  # Snakemake defines it
