"""Targets of the workflow that have work of their own: no other target runs it."""

PRUNING, METHODS, TIME_TO_ACCURACY, TUNING = "pruning_full", "methods", "time_to_accuracy", "tuning"
