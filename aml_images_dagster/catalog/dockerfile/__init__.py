"""Reading, joining and pinning Dockerfiles."""

from aml_images_dagster.catalog.dockerfile.combination import combine, parse_combined
from aml_images_dagster.catalog.dockerfile.copies import (
    CopySource,
    RemoteSource,
    copy_sources,
    is_literal,
    remote_sources,
    takes,
)
from aml_images_dagster.catalog.dockerfile.dockerfile import SCRATCH, Dockerfile, ImageUse, Stage, parse_dockerfile
from aml_images_dagster.catalog.dockerfile.pinning import (
    in_every_stage,
    pin,
    with_arguments,
    with_base,
    with_labels,
    without_directives,
)

__all__ = [
    "SCRATCH",
    "CopySource",
    "Dockerfile",
    "ImageUse",
    "RemoteSource",
    "Stage",
    "combine",
    "copy_sources",
    "in_every_stage",
    "is_literal",
    "parse_combined",
    "parse_dockerfile",
    "pin",
    "remote_sources",
    "takes",
    "with_arguments",
    "with_base",
    "with_labels",
    "without_directives",
]
