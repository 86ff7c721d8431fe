"""Claims of a publication: a ledger of them, and a verdict on each from a campaign's tables."""
