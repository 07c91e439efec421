"""What production serves of a build."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aml_images_dagster.catalog.reference import Reference

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aml_images_dagster.build.artifacts import BuildFolder
    from aml_images_dagster.build.parts import Parts
    from aml_images_dagster.build.records import BuildRecord
    from aml_images_dagster.settings import Settings


def served(folder: BuildFolder, record: BuildRecord, parts: Parts, settings: Settings) -> Iterator[Reference]:
    """The names in production, by release tag and as the latest, behind which an image of a build is.

    Raises:
        BadInput: A record of the build cannot be read.
        Unreachable: Production does not answer.
    """
    for image in record.images:
        staged = folder.read_staged(image)
        family, _, name = image.partition("/")
        repository = settings.production_names.format(name=name, family=family)
        for tag in filter(None, (record.release_tag, "latest")):
            reference = Reference(parts.production.host, repository, tag)
            if staged is not None and parts.production.digest(reference) == staged.digest:
                yield reference
