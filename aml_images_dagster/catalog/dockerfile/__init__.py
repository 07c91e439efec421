"""Reading, joining and pinning Dockerfiles."""

from aml_images_dagster.catalog.dockerfile.combination import combine, parse_combined
from aml_images_dagster.catalog.dockerfile.copies import CopySource, copy_sources, is_literal, takes
from aml_images_dagster.catalog.dockerfile.dockerfile import SCRATCH, Dockerfile, ImageUse, Stage, parse_dockerfile
from aml_images_dagster.catalog.dockerfile.pinning import pin, with_base, with_label, with_labels

__all__ = [
    "SCRATCH",
    "CopySource",
    "Dockerfile",
    "ImageUse",
    "Stage",
    "combine",
    "copy_sources",
    "is_literal",
    "parse_combined",
    "parse_dockerfile",
    "pin",
    "takes",
    "with_base",
    "with_label",
    "with_labels",
]
