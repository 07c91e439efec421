"""Faster backends of a Dagster instance: storages, logs of steps, and the executor of steps."""
