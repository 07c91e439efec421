"""Hosts of pull requests: the author of one, its status, and the comment about its build."""
