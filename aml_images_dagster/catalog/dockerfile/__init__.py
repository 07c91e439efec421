"""Reading, joining and pinning Dockerfiles."""

from aml_images_dagster.catalog.dockerfile.combination import PRIVATE_SUFFIX, combine, parse_combined
from aml_images_dagster.catalog.dockerfile.dockerfile import SCRATCH, Dockerfile, ImageUse, Stage, parse_dockerfile
from aml_images_dagster.catalog.dockerfile.pinning import pin

__all__ = [
    "PRIVATE_SUFFIX",
    "SCRATCH",
    "Dockerfile",
    "ImageUse",
    "Stage",
    "combine",
    "parse_combined",
    "parse_dockerfile",
    "pin",
]
