"""What is in a staged image, and in the images that it is built on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aml_images_dagster.builds.steps.staging import staged_by_digest
from aml_images_dagster.builds.versions.image_lookup import find_base
from aml_images_dagster.errors import BadInput
from aml_images_dagster.registry.platforms import images_of
from aml_images_dagster.trust.inventory import read_inventory
from aml_images_dagster.trust.layer_records import LayerRecords

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from aml_images_dagster.builds.backends import Backends
    from aml_images_dagster.builds.records import BaseImage, StagedImage
    from aml_images_dagster.builds.session import BuildSession
    from aml_images_dagster.catalog.catalog import Catalog
    from aml_images_dagster.catalog.reference import Reference
    from aml_images_dagster.engine.interface import LogLine
    from aml_images_dagster.settings import Settings
    from aml_images_dagster.trust.inventory import Inventory


def of_staged(session: BuildSession, staged: StagedImage) -> dict[Reference, Inventory]:
    """What a staged image has on each of its platforms, by the image of the platform.

    Raises:
        BadInput: The image was deleted.
        Unreachable: Staging does not answer.
    """
    staging, records = session.backends.staging, LayerRecords(session.settings.layer_records)
    contents = session.image(staged.image).settings.contains
    images = images_of(staging, staged_by_digest(session, staged)).values()
    return {image: read_inventory(staging, image, records, contents) for image in images}


def of_bases(
    bases: Iterable[BaseImage], catalog: Catalog, backends: Backends, settings: Settings, log: LogLine
) -> Iterator[Inventory]:
    """What the bases of an image have, on each platform.

    Args:
        bases: What the image is built on.
        catalog: The images that are not external.
        backends: Registries.
        settings: Names in production, and where records of layers are.
        log: Receives a line for a base that cannot be looked into.

    Raises:
        BadInput: A base was deleted while it was read.
        Unreachable: A registry does not answer.
    """
    records = LayerRecords(settings.layer_records)
    for base in bases:
        try:
            found = find_base(base, catalog, backends, settings)
        except BadInput as error:
            log(f"what {base.reference} has cannot be distinguished from what the image adds: {error.what}")
            continue
        if found is not None:
            for image in images_of(found.registry, found.reference).values():
                yield read_inventory(found.registry, image, records)
