"""Pruning by the signal-to-noise ratio |mu| / sigma: weights or whole units, and networks that are really smaller."""
