"""Inference: predictive distributions of a posterior from Monte-Carlo draws, and how far they can be trusted."""
