"""FLOPs: stated by formula (`formulae`), the most a machine does (`peak`)."""
