"""The campaign as a whole: its grid of jobs, and plan.json for everything downstream."""
