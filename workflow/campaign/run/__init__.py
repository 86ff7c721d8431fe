"""What Snakemake asks: opening a campaign, what is current, making ready, what a target wants."""
