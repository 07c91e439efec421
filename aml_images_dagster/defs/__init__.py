"""What Dagster loads: a folder for each domain. The modules beside the folders are shared by several domains."""
