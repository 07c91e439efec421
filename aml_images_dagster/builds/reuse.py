"""What need not be made again: an image that passed with the same content key and is still in staging."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aml_images_dagster.catalog.reference import Reference

if TYPE_CHECKING:
    from aml_images_dagster.builds.parts import Parts
    from aml_images_dagster.builds.records import PassedImage
    from aml_images_dagster.catalog.content_key import ContentKey
    from aml_images_dagster.catalog.image import Image


def reusable(key: ContentKey, image: Image, parts: Parts) -> PassedImage | None:
    """The image that passed with this key and is still in staging; None when it must be built."""
    passed = parts.artifacts.read_passed(key.digest)
    if passed is None or passed.staged.image != image.id:
        return None
    reference = Reference(parts.staging.host, image.family, digest=passed.staged.digest)
    return passed if parts.staging.digest(reference) else None
