"""The frame that every command has: its options, threads and ranks, the folder of its records, what it says.

`bnn/cli.py` lists the commands; each is defined beside what it does, in `bnn/*/commands.py`. Importing this package
loads nothing heavy.
"""
