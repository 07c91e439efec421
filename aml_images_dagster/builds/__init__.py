"""A build, without Dagster: a folder for each subject. The modules beside the folders are what all of them use."""
