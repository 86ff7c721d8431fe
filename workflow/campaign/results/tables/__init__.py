"""Tables of a campaign: from the cells' records to what figures and report are drawn from."""
