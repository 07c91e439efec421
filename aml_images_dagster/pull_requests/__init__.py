"""Pull requests, without Dagster: what is open, whose is built, what it changes, and what its page is told."""
