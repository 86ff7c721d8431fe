"""What things are called and where they lie: cells and the layout of a results folder."""
