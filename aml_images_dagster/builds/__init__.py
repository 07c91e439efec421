"""A build, without Dagster: what it plans, stages, tests, writes down and cleans up."""
