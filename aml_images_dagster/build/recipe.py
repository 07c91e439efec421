"""The recipe of an image: all that decides its bytes, and the key that stands for all of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aml_images_dagster.build.bases import FindParent, PinnedBase, pin_bases, released
from aml_images_dagster.catalog.content_key import ContentKey
from aml_images_dagster.catalog.context import BuildContext
from aml_images_dagster.catalog.dockerfile import pin
from aml_images_dagster.catalog.reference import Reference

if TYPE_CHECKING:
    from aml_images_dagster.build.parts import Parts
    from aml_images_dagster.build.records import PassedImage
    from aml_images_dagster.build.session import BuildSession, Source
    from aml_images_dagster.catalog.image import Image


StagedDigest = Callable[[str], str | None]


@dataclass(frozen=True, slots=True)
class Recipe:
    """All that decides an image's bytes.

    Attributes:
        image: The image.
        dockerfile: The public and the private part, every base pinned.
        context: The files that the Dockerfile can copy.
        bases: What the image stands on.
        key: The content key.
    """

    image: Image
    dockerfile: str
    context: BuildContext
    bases: tuple[PinnedBase, ...]
    key: ContentKey


def write_recipe(image: Image, source: Source, parts: Parts, find_parent: FindParent) -> Recipe:
    """Pin the bases of an image and compute its content key.

    Raises:
        BadInput: A base can't be resolved.
    """
    bases = pin_bases(image, source.catalogue, parts, find_parent)
    context = BuildContext.of(source.tree, image)
    key = ContentKey.of(
        dockerfile=image.dockerfile.text,
        context=context,
        build_args=image.settings.build_args,
        platform=image.platform,
        bases={base.reference: base.digest for base in bases},
    )
    dockerfile = pin(image.dockerfile, {base.reference: base.pull for base in bases})
    return Recipe(image, dockerfile, context, bases, key)


def reusable(key: ContentKey, image: Image, parts: Parts) -> PassedImage | None:
    """The image that passed with this key and is still in staging; None when it must be built."""
    passed = parts.artifacts.read_passed(key.digest)
    if passed is None or passed.staged.image != image.id:
        return None
    reference = Reference(parts.staging.host, image.family, digest=passed.staged.digest)
    return passed if parts.staging.digest(reference) else None


def parent_finder(session: BuildSession, staged: StagedDigest) -> FindParent:
    """Where a build finds images of our own: itself, the last release, else what passed as the source stands now.

    Args:
        session: The build.
        staged: Gives the digest of an image that is part of the build.
    """

    def find(parent: str) -> Reference | None:
        image = session.image(parent)
        staging = Reference(session.parts.staging.host, image.family)
        if parent in session.images:
            digest = staged(parent)
            return staging.with_digest(digest) if digest else None
        release = released(image, session.parts, session.settings.production_names)
        if release:
            return release
        passed = reusable(write_recipe(image, session.source, session.parts, find).key, image, session.parts)
        return staging.with_digest(passed.staged.digest) if passed else None

    return find
