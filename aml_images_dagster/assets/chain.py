"""The chain of every image: staged -> tested -> release_config -> import_cfg -> released, and the files of a build."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from aml_images_dagster.assets.release_entries import release_entries
from aml_images_dagster.assets.release_files import release_files
from aml_images_dagster.assets.released import released_assets
from aml_images_dagster.assets.staged import staged_asset
from aml_images_dagster.assets.tested import tested_asset
from aml_images_dagster.catalog.image_name import name_fault, plain_name

if TYPE_CHECKING:
    import dagster as dg

    from aml_images_dagster.assets.run import Workshop
    from aml_images_dagster.catalog.catalogue import Catalogue
    from aml_images_dagster.catalog.image import Image


def images_with_assets(catalogue: Catalogue) -> list[Image]:
    """The images that Dagster knows.

    An image that cannot be built at all has no assets, so that the others load: one whose Dockerfile cannot be read,
    whose name no registry takes, or whose name Dagster could not tell from another's. Validation says so.
    """
    named = [image for image in catalogue.images.values() if name_fault(image.family, image.name) is None]
    names = Counter(plain_name(image.family, image.name) for image in named)
    return [image for image in named if image.parsed and names[plain_name(image.family, image.name)] == 1]


def image_assets(images: list[Image], workshop: Workshop) -> list[dg.AssetsDefinition]:
    """Every asset of images: two steps per image and two per build, and one that releases."""
    if not images:
        return []
    chains = [asset for image in images for asset in (staged_asset(image, workshop), tested_asset(image, workshop))]
    per_build = (release_entries, release_files, released_assets)
    return [*chains, *(assets(images, workshop) for assets in per_build)]
