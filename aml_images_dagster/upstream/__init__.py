"""The images of others that ours are built on: which they are, what to do when they change. Without Dagster."""
