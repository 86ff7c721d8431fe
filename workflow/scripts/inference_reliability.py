from campaign.figures.script import main

main("inference_reliability", snakemake)  # noqa: F821  # Snakemake defines it
