"""Figures of a campaign: pure functions of its tables. `catalogue` names them all without importing matplotlib."""
