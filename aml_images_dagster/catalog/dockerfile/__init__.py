"""Reading, joining and pinning Dockerfiles."""

from aml_images_dagster.catalog.dockerfile.combination import PRIVATE_SUFFIX, combine, parse_combined
from aml_images_dagster.catalog.dockerfile.copies import CopySource, copy_sources
from aml_images_dagster.catalog.dockerfile.dockerfile import SCRATCH, Dockerfile, ImageUse, Stage, parse_dockerfile
from aml_images_dagster.catalog.dockerfile.pinning import pin, with_label, with_labels

__all__ = [
    "PRIVATE_SUFFIX",
    "SCRATCH",
    "CopySource",
    "Dockerfile",
    "ImageUse",
    "Stage",
    "combine",
    "copy_sources",
    "parse_combined",
    "parse_dockerfile",
    "pin",
    "with_label",
    "with_labels",
]
