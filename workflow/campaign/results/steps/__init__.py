"""The steps of the workflow that draw a figure, make tables and write the report: what its scripts run."""
