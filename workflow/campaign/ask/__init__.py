"""What a campaign file asks for: studies, their sections, data sets, and what a machine's size makes of them."""
