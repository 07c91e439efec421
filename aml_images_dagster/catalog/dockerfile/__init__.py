"""Reading, joining and pinning Dockerfiles."""

from aml_images_dagster.catalog.dockerfile.copies import (
    CopySource,
    RemoteSource,
    copy_sources,
    is_literal,
    remote_sources,
    takes,
)
from aml_images_dagster.catalog.dockerfile.dockerfile import SCRATCH, Dockerfile, ImageUse, Stage, parse_dockerfile
from aml_images_dagster.catalog.dockerfile.expansion import SPACES
from aml_images_dagster.catalog.dockerfile.installs import installs
from aml_images_dagster.catalog.dockerfile.rendering import (
    NoSuchStageError,
    combine,
    in_every_stage,
    parse_combined,
    pin,
    with_arguments,
    with_base,
    with_labels,
    without_directives,
)
from aml_images_dagster.catalog.dockerfile.rules import InstructionFault, instruction_faults, odd_blanks

__all__ = [
    "SCRATCH",
    "SPACES",
    "CopySource",
    "Dockerfile",
    "ImageUse",
    "InstructionFault",
    "NoSuchStageError",
    "RemoteSource",
    "Stage",
    "combine",
    "copy_sources",
    "in_every_stage",
    "installs",
    "instruction_faults",
    "is_literal",
    "odd_blanks",
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
