"""Targets of the workflow that studies may name as theirs: no other target runs such a study."""

PRUNING, METHODS, TUNING = "pruning_full", "methods", "tuning"
