"""Pull requests, without Dagster: open ones, admission, changed images, and the report on the page."""
