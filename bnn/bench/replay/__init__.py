"""Replays a recorded run on more ranks: they sleep for what it computed, and reduce its messages for real.

Sleeping takes no core, so that eight ranks on two cores measure the communication of eight ranks and not how they share
the cores. What comes of it is replayed, never measured, and is called so wherever it stands.
"""
