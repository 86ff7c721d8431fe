"""Training: `trainer.py` has one step, `loop.py` reads top to bottom, and the rest is what surrounds them."""
