"""A container image factory on Dagster: from a repository of Dockerfiles to tested, releasable images."""
