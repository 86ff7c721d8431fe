"""The jobs of a campaign: training of a cell, inference and pruning after it, benchmarks."""
