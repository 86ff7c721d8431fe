from campaign.results.figures.script import main

main("inference_runtime", snakemake)  # noqa: F821  # Snakemake defines it
