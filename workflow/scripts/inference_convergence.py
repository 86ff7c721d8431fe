from campaign.results.figures.script import main

main("inference_convergence", snakemake)  # noqa: F821  # Snakemake defines it
