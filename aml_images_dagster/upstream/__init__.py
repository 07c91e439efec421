"""External bases: which images are built on them, and what happens when they change. Without Dagster."""
