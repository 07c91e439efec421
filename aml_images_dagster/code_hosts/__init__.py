"""Hosts of git repositories: which one stands behind a remote, and the connection to its API."""
