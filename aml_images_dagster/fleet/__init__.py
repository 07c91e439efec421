"""The fleet: every image in production at a glance, what needs a person first. Without Dagster."""
