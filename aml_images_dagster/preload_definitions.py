"""What `preload` imports, and the definitions: a step follows the run that it belongs to."""

from aml_images_dagster import preload
from aml_images_dagster.definitions import build_job

__all__ = ["preload"]

build_job()
