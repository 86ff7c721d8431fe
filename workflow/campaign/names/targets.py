"""Targets of the workflow that studies may name as theirs: no other target runs such a study."""

PRUNING, METHODS = "pruning_full", "methods"
