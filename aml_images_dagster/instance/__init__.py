"""Backends of a Dagster instance of our own: storages, logs of steps, and what executes steps."""
