"""Builds at fixed times: the files of `schedules/`, and the days of Windows patches. Nothing here knows Dagster."""
