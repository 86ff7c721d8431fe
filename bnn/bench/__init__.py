"""`bnn bench`: interleaved measurements of our implementations, conventional networks and peers.

Every implementation lives in a process of its own (`worker.py`, `peer_torch.py`, `peer_tfp.py`), which the parent
(`pool.py`, `session.py`) asks over a pipe to run a few steps in turn. Importing the package loads nothing heavy.
"""
