"""Reading, joining and pinning Dockerfiles."""

from aml_images_dagster.catalog.dockerfile.combination import PRIVATE_SUFFIX, combine, parse_combined
from aml_images_dagster.catalog.dockerfile.copies import CopySource, RemoteSource, copy_sources, remote_sources
from aml_images_dagster.catalog.dockerfile.dockerfile import SCRATCH, Dockerfile, ImageUse, Stage, parse_dockerfile
from aml_images_dagster.catalog.dockerfile.pinning import in_every_stage, pin, with_labels, without_directives

__all__ = [
    "PRIVATE_SUFFIX",
    "SCRATCH",
    "CopySource",
    "Dockerfile",
    "ImageUse",
    "RemoteSource",
    "Stage",
    "combine",
    "copy_sources",
    "in_every_stage",
    "parse_combined",
    "parse_dockerfile",
    "pin",
    "remote_sources",
    "with_labels",
    "without_directives",
]
