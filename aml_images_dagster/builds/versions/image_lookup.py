"""Finds the image that a text names: one of the repository, in staging or released, or any in a registry."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from aml_images_dagster.builds.history import History
from aml_images_dagster.builds.ledger import LATEST, Ledger
from aml_images_dagster.builds.source import load_catalog
from aml_images_dagster.builds.steps.parents import in_production
from aml_images_dagster.builds.versions.image_versions import newest_staged
from aml_images_dagster.catalog.reference import DOCKER_HUB, Reference
from aml_images_dagster.catalog.tree import WorkingTree
from aml_images_dagster.errors import BadInput
from aml_images_dagster.registry.oci import OciRegistry
from aml_images_dagster.registry.platforms import images_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aml_images_dagster.builds.backends import Backends
    from aml_images_dagster.builds.ledger import ReleaseRecord
    from aml_images_dagster.builds.records import BaseImage, StagedImage
    from aml_images_dagster.catalog.catalog import Catalog
    from aml_images_dagster.catalog.image import Image
    from aml_images_dagster.catalog.image_file import Content
    from aml_images_dagster.registry.interface import Registry
    from aml_images_dagster.settings import Settings


@dataclass(frozen=True, slots=True)
class FoundImage:
    """Where an image is.

    Attributes:
        registry: The registry that has it.
        reference: The image there.
        name: `<family>/<name>` of an image of the repository, else its repository in the registry.
        contents: What image.json declares to be in it.
        bases: What it is built on, as far as a record of a build says.
        is_withdrawn: Whether it is an image of the repository that was withdrawn, under any release tag.
    """

    registry: Registry
    reference: Reference
    name: str
    contents: Sequence[Content] = ()
    bases: Sequence[BaseImage] = ()
    is_withdrawn: bool = False

    @property
    def titled(self) -> str:
        """Its name for people."""
        return f"{self.name}, withdrawn" if self.is_withdrawn else self.name

    def platforms(self, wanted: str | None = None) -> dict[str, Reference]:
        """The image of each platform, by platform.

        Args:
            wanted: Only this platform, with or without its variant.

        Raises:
            BadInput: There is no such image, or none for the platform.
        """
        images = images_of(self.registry, self.reference)
        chosen = {
            platform: image
            for platform, image in images.items()
            if wanted is None or platform == wanted or f"{platform}/".startswith(f"{wanted}/")
        }
        if not chosen:
            raise BadInput(
                f"the image has no platform {wanted}",
                where=str(self.reference),
                hint=f"Choose one with --platform: {', '.join(images)}.",
            )
        return chosen


def find_image(settings: Settings, backends: Backends, text: str) -> FoundImage:
    """Find an image: the newest one in staging, else the last one that was released; or the one of a reference.

    Raises:
        BadInput: There is none, or only an engine has it.
        Unreachable: A registry does not answer.
    """
    image = _of_repository(settings, text)
    if image is not None:
        records = Ledger(backends.artifacts).records()
        registry, reference, staged = _newest(backends, image.id, records)
        is_withdrawn = reference.digest in History(records).withdrawn_of(image.id)
        bases = staged.bases if staged else ()
        return FoundImage(registry, reference, image.id, image.settings.contains, bases, is_withdrawn)
    return find_reference(settings, backends, text)


def find_reference(settings: Settings, backends: Backends, text: str) -> FoundImage:
    """Find an image by its reference: in staging, in production, or where builds find their bases.

    Raises:
        BadInput: There is none, or only an engine has it.
        Unreachable: A registry does not answer.
    """
    reference = Reference.parse(text)
    if reference.registry in (backends.staging.host, backends.production.host):
        return FoundImage(registry_at(reference.registry, settings, backends), reference, reference.repository)
    base = backends.resolver.resolve(text)
    place = Reference.parse(base.pull)
    if base.from_engine:
        raise BadInput(
            "only the engine has this image, and its layers are read from a registry",
            where=text,
            hint="Push it to a registry, or name a mirror that has it (base_mirrors).",
        )
    return FoundImage(registry_at(place.registry, settings, backends), place, reference.repository)


def registry_at(host: str, settings: Settings, backends: Backends) -> Registry:
    """The registry at a host: staging, production, or another one with the login for it."""
    for registry in (backends.staging, backends.production):
        if registry.host == host:
            return registry
    return OciRegistry(
        host, lambda: backends.login_for(host), trusted=settings.trusts(host), setting=settings.naming(host)
    )


def find_base(base: BaseImage, catalog: Catalog, backends: Backends, settings: Settings) -> FoundImage | None:
    """Find what an image was built on; None where it is gone.

    Args:
        base: As the record of the image has it.
        catalog: The images that are not external.
        backends: Registries.
        settings: Names in production.

    Raises:
        BadInput: Nobody has a base of that name any more, or only an engine has it.
        Unreachable: A registry does not answer.
    """
    parent = catalog.published.resolve(base.reference)
    if parent is None:
        found = find_reference(settings, backends, base.reference)
        return FoundImage(found.registry, found.reference.with_digest(base.digest), found.name)
    image = catalog.images[parent]
    for registry, place in (
        (backends.staging, Reference(backends.staging.host, image.family)),
        (backends.production, in_production(image, backends, settings)),
    ):
        if registry.digest(place.with_digest(base.digest)) is not None:
            return FoundImage(registry, place.with_digest(base.digest), parent)
    return None


def _of_repository(settings: Settings, text: str) -> Image | None:
    """The image of the repository that a text names; None for a reference, which needs no repository."""
    try:
        catalog = load_catalog(settings, WorkingTree(settings.repo))
    except BadInput:
        if is_reference(text):
            return None
        raise
    return None if is_reference(text) and text not in catalog.images else catalog.get(text)


def is_reference(text: str) -> bool:
    """Whether a text begins with the host of a registry; without one it is the name of an image of the repository."""
    host, slash, _ = text.partition("/")
    return bool(slash) and (host in ("localhost", DOCKER_HUB) or bool(set(".:") & set(host)))


def _newest(
    backends: Backends, image: str, records: Sequence[ReleaseRecord]
) -> tuple[Registry, Reference, StagedImage | None]:
    staged = newest_staged(image, backends)
    if staged is not None:
        return staged.registry, staged.reference, staged.staged
    for release in reversed(records):
        change = release.change(image, LATEST) if release.done else None
        if change is not None and change.after is not None:
            production = Reference(backends.production.host, change.repository, digest=change.after)
            return backends.production, production, backends.artifacts.build(release.build).read_staged(image)
    raise BadInput(
        "the image is neither in staging nor released", where=image, hint=f"`aml-images build {image}` builds it."
    )
