"""A build, without Dagster: plan, staging, tests, records and cleanup."""
