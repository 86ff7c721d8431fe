"""Job scripts and settings files from templates; quoting for the shell."""
