"""Two campaigns side by side: per cell and metric their ratio, its interval and a verdict. docs/compare.md says how."""
