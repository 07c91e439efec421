"""Hosts of git repositories: the host of a remote, and the connection to its API."""
