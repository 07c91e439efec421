"""The images of others that ours stand on: which they are, what to do when they change. Without Dagster."""
