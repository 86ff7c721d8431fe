"""The machine: a site file, its scheduler and launcher, what a job asks of them, and what this machine is."""
