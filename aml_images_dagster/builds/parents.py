"""Where a build finds images of our own that others are FROM."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING

from aml_images_dagster.builds.recipe import write_recipe
from aml_images_dagster.builds.reuse import reusable
from aml_images_dagster.catalog.reference import Reference

if TYPE_CHECKING:
    from aml_images_dagster.builds.bases import FindParent
    from aml_images_dagster.builds.parts import Parts
    from aml_images_dagster.builds.session import BuildSession, Source
    from aml_images_dagster.catalog.image import Image
    from aml_images_dagster.settings import Settings

StagedDigest = Callable[[str], str | None]
"""The digest of an image that the build itself stages; empty for one that it has yet to build, None if it cannot."""


def parent_finder(session: BuildSession, staged: StagedDigest) -> FindParent:
    """How a build finds parents: what it stages itself comes first, then what its plan has pinned, if it is there."""
    elsewhere = finder_elsewhere(session.source, session.parts, session.settings)
    planned = session.plan.images if session.plan else ()
    pinned = {base.image: Reference.parse(base.pull) for step in planned for base in step.bases if base.pull}

    def find(parent: str) -> Reference | None:
        if parent not in session.images:
            pin = pinned.get(parent)
            return pin if pin and _is_there(pin, session.parts) else elsewhere(parent)
        digest = staged(parent)
        if digest is None:
            return None
        reference = session.staging_reference(session.image(parent))
        return reference.with_digest(digest) if digest else reference

    return find


def _is_there(image: Reference, parts: Parts) -> bool:
    registry = parts.staging if image.registry == parts.staging.host else parts.production
    return registry.digest(image) is not None


def finder_elsewhere(source: Source, parts: Parts, settings: Settings) -> FindParent:
    """How to find an image that the build does not make: its last release, else what passed as its folder stands now.

    The finder raises BadInput when a base of the image can't be resolved. It keeps its answers.
    """

    @cache
    def find(name: str) -> Reference | None:
        image = source.catalogue.get(name)
        release = released(image, parts, settings)
        if release:
            return release
        if any(find(parent) is None for parent in image.parents):
            return None
        passed = reusable(write_recipe(image, source, parts, find).key, image, parts)
        return Reference(parts.staging.host, image.family, digest=passed.staged.digest) if passed else None

    return find


def released(image: Image, parts: Parts, settings: Settings) -> Reference | None:
    """The last release of an image, by digest; None when it was never released."""
    repository = settings.production_names.format(name=image.name, family=image.family)
    latest = Reference(parts.production.host, repository, "latest")
    digest = parts.production.digest(latest)
    return latest.with_digest(digest) if digest else None
