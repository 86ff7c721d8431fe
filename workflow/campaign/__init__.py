"""The campaign: grid, job scripts, tables, figures and report. Never imports torch."""
