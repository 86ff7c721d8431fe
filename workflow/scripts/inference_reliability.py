from campaign.results.figures.script import main

main("inference_reliability", snakemake)  # noqa: F821  # Snakemake defines it
