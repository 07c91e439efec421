"""What Dagster loads, a folder for each domain; the modules beside the folders are what several domains need."""
