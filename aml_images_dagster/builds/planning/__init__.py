"""Before a build: what it would do and why, and whether anything would stop it."""
