"""Parents: where a build finds images of the catalog that other images are FROM."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING

from aml_images_dagster.builds.history import History
from aml_images_dagster.builds.ledger import LATEST, Ledger
from aml_images_dagster.builds.steps.recipe import write_recipe
from aml_images_dagster.builds.steps.reuse import is_reusable, reusable
from aml_images_dagster.catalog.reference import Reference
from aml_images_dagster.errors import BadInput

if TYPE_CHECKING:
    from aml_images_dagster.builds.backends import Backends
    from aml_images_dagster.builds.session import BuildSession, Source
    from aml_images_dagster.builds.steps.bases import FindParent
    from aml_images_dagster.catalog.image import Image
    from aml_images_dagster.settings import Settings

StagedDigest = Callable[[str], str | None]
"""The digest of an image that the build itself stages; empty for one that it has yet to build, None if it cannot."""


def parent_finder(session: BuildSession, staged: StagedDigest) -> FindParent:
    """How a build finds parents: what it stages itself comes first, then what its plan has pinned, if it is there."""
    for_pull_request = bool(session.pull_request)
    elsewhere = finder_elsewhere(session.source, session.backends, session.settings, for_pull_request=for_pull_request)

    @cache
    def pinned() -> dict[str, Reference]:
        planned = session.plan.images if session.plan else ()
        return {base.image: Reference.parse(base.pull) for step in planned for base in step.bases if base.pull}

    def is_there(pin: Reference, image: Image) -> bool:
        if is_in_staging(pin, image, session.backends):
            return is_reusable(pin, image, session.backends, for_pull_request=for_pull_request)
        return session.backends.production.digest(pin) is not None

    def find(parent: str, release: str = "") -> Reference | None:
        if release:
            return elsewhere(parent, release)
        if parent not in session.images:
            pin = pinned().get(parent)
            return pin if pin and is_there(pin, session.image(parent)) else elsewhere(parent)
        digest = staged(parent)
        if digest is None:
            return None
        reference = session.staging_reference(session.image(parent))
        return reference.with_digest(digest) if digest else reference

    return find


def is_in_staging(found: Reference, image: Image, backends: Backends) -> bool:
    """Whether what was found as a parent is an image of another build, and not its release."""
    return (found.registry, found.repository) == (backends.staging.host, image.family)


def finder_elsewhere(
    source: Source, backends: Backends, settings: Settings, *, for_pull_request: bool = False
) -> FindParent:
    """How to find an image that is not part of the build: its last release, else the one that passed unchanged.

    Of one release that is named, what production has under its tag or digest, else what has passed with its digest.

    The finder raises BadInput when a base of the image can't be resolved. It keeps its answers.

    Args:
        source: The image folders.
        backends: Registries and the artifacts store.
        settings: Names in production.
        for_pull_request: Whether a build of a pull request asks.
    """

    @cache
    def find(name: str, release: str = "") -> Reference | None:
        image = source.catalog.get(name)
        if release:
            staged = Reference(backends.staging.host, image.family, digest=Reference.parse(release).digest)
            return named_release(image, release, backends, settings) or (
                staged
                if staged.digest and is_reusable(staged, image, backends, for_pull_request=for_pull_request)
                else None
            )
        last = released(image, backends, settings)
        if last:
            return last
        if any(find(parent) is None for parent in image.parents):
            return None
        key = write_recipe(image, source, backends, find).key
        passed = reusable(key, image, backends, for_pull_request=for_pull_request)
        return Reference(backends.staging.host, image.family, digest=passed[0].staged.digest) if passed else None

    return find


def released(image: Image, backends: Backends, settings: Settings) -> Reference | None:
    """The last release of an image, by digest; None when it was never released.

    A release of another image, which had this name in production before, is not used.
    """
    latest = in_production(image, backends, settings).with_tag(LATEST)
    digest = backends.production.digest(latest)
    if digest is None:
        return None
    owner = History(Ledger(backends.artifacts).records()).owner(latest.repository, digest)
    return latest.with_digest(digest) if owner in (None, image.id) else None


def named_release(image: Image, reference: str, backends: Backends, settings: Settings) -> Reference | None:
    """The release of an image that a reference names, by digest; None when production does not have it.

    Raises:
        BadInput: It was withdrawn.
    """
    asked, place = Reference.parse(reference), in_production(image, backends, settings)
    tag = asked.newest(backends.production.tags(place.repository) if asked.is_template else ())
    if not asked.digest and tag is None:
        return None
    wanted = place.with_digest(asked.digest) if asked.digest else place.with_tag(tag or "")
    digest = backends.production.digest(wanted)
    history = History(Ledger(backends.artifacts).records())
    withdrawn = history.withdrawn(place.repository)
    if (digest or asked.digest) in withdrawn or (digest is None and history.withdrawal(f"{place.repository}:{tag}")):
        raise BadInput(
            f"this release of {image.id} was withdrawn",
            where=reference,
            hint=f"Name another one; without a tag, FROM follows {image.id}.",
        )
    return place.with_digest(digest) if digest else None


def in_production(image: Image, backends: Backends, settings: Settings) -> Reference:
    """The repository of an image in production."""
    return Reference(backends.production.host, settings.production_names.format(name=image.name, family=image.family))
