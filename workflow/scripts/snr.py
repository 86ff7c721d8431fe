from campaign.results.figures.script import main

main("snr", snakemake)  # noqa: F821  # Snakemake defines it
