from campaign.results.figures.script import main

main("peer_comparison", snakemake)  # noqa: F821  # Snakemake defines it
