"""FLOPs: stated by formula (`formulae`), counted in a running model (`count`), the most a machine does (`peak`)."""
