"""Bringing a staged image into the production registry, by digest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from aml_images_dagster.errors import BadInput
from aml_images_dagster.registry.copy import copy_image

if TYPE_CHECKING:
    from aml_images_dagster.catalog.reference import Reference
    from aml_images_dagster.registry.interface import Registry


class Importer(Protocol):
    """A way into the production registry."""

    def import_image(self, source: Reference, destination: Reference, *, replace: bool) -> None:
        """Make a tag of the production registry point to a staged image. Done already is done.

        Args:
            source: The image in staging, by digest.
            destination: The tag in production.
            replace: Whether the tag may move away from another digest.

        Raises:
            BadInput: The tag points to another digest and may not move, or there is no such image.
            Unreachable: A registry does not answer or refuses.
        """

    def import_untagged(self, source: Reference, repository: str) -> None:
        """Bring a manifest into a repository of the production registry under its digest alone. Done already is done.

        Args:
            source: An artifact in staging, by digest.
            repository: Where it is to be.

        Raises:
            BadInput: There is no such manifest.
            Unreachable: A registry does not answer or refuses.
        """


class CopyingImporter:
    """An `Importer` that copies the bytes through this machine.

    Args:
        staging: Where images come from.
        production: Where they go.
    """

    def __init__(self, staging: Registry, production: Registry) -> None:
        self._staging = staging
        self._production = production

    def import_image(self, source: Reference, destination: Reference, *, replace: bool) -> None:
        """See `Importer.import_image`."""
        there = self._production.digest(destination)
        if there == source.digest:
            return
        if there and not replace:
            raise BadInput(
                f"the tag points to {there}, not to {source.digest}",
                where=str(destination),
                hint="A released tag never moves: release under another tag.",
            )
        copy_image(self._staging, self._production, source, destination.repository, [destination.tag])

    def import_untagged(self, source: Reference, repository: str) -> None:
        """See `Importer.import_untagged`."""
        copy_image(self._staging, self._production, source, repository)
