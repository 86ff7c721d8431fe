"""`bnn check`: whether this machine computes what it should, in a few minutes, each check in a process of its own.

plan.py lists the checks, run.py runs them and ends what hangs; numerics.py, exchange.py (with rank.py, what each of
several ranks does) and runs.py are the checks themselves; report.py writes the one file to send.
"""
