"""The commands of `bnn` that jobs run: what jobs, their logs and the sections of a campaign file are called by."""

TRAIN, INFER, PRUNE, BENCH = "train", "infer", "prune", "bench"
