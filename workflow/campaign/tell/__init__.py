"""Answers for people: the plan as a table, status, why, and the command `campaign`."""
