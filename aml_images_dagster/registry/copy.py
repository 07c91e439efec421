"""Copying an image from one registry to another, by digest: the same bytes under the same digest.

The importer of the profile `local` brings images into production by such copies.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Protocol

from typing_extensions import override

from aml_images_dagster.catalog.reference import is_digest
from aml_images_dagster.errors import BadInput, Unreachable
from aml_images_dagster.http_connection import time_limit
from aml_images_dagster.http_session import LONGEST_PAUSE
from aml_images_dagster.registry.interface import TooManyRequests
from aml_images_dagster.registry.oci import DEEPEST, read_manifest, too_deep

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aml_images_dagster.catalog.reference import Reference
    from aml_images_dagster.registry.interface import Manifest, Registry

_AT_ONCE = 3
_ATTEMPTS = 3
_BLOB_SECONDS = 3600


def copy_image(
    source: Registry, target: Registry, reference: Reference, repository: str, tags: Sequence[str] = ()
) -> str:
    """Copy an image, with all platforms of an index, and tag the copy.

    What the target has already is not sent again. Manifests are stored after everything that they refer to and
    tags last, so no client ever sees half of an image.

    Args:
        source: Where the image is.
        target: Where it shall be.
        reference: The image in the source; it must name a digest.
        repository: Repository in the target.
        tags: Tags in the target.

    Returns:
        The digest, which is that of the reference.

    Raises:
        BadInput: The reference has no digest, or there is no such image.
        Unreachable: A registry does not answer, refuses, or the bytes do not match the digest.
    """
    if not is_digest(reference.digest):
        raise BadInput("an image is copied by digest", where=str(reference), hint="Write it as repository@sha256:….")
    manifest = _copy_all(source, target, reference, repository, done={}, depth=1)
    for tag in tags:
        target.put_manifest(repository, tag, manifest)
    return reference.digest


def _copy_all(
    source: Registry,
    target: Registry,
    reference: Reference,
    repository: str,
    done: dict[str, Manifest],
    depth: int,
) -> Manifest:
    """Copy a manifest and all that it refers to; `done` has what is copied already, by digest."""
    if depth > DEEPEST:
        raise too_deep(reference)
    if reference.digest in done:
        return done[reference.digest]
    manifest = source.existing(reference)
    document = read_manifest(manifest)
    for entry in document.get("manifests", ()):
        _copy_all(source, target, reference.with_digest(entry["digest"]), repository, done, depth + 1)
    if "layers" in document:
        blobs = {
            blob["digest"]
            for blob in (document["config"], *document["layers"])
            if not blob.get("urls")  # Windows base layers that may not be redistributed stay where they are
        }
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            list(pool.map(lambda digest: _copy_blob(source, target, reference, repository, digest), sorted(blobs)))
    target.put_manifest(repository, reference.digest, manifest)
    done[reference.digest] = manifest
    return manifest


def _copy_blob(source: Registry, target: Registry, reference: Reference, repository: str, digest: str) -> None:
    """Send one blob; an interrupted transfer starts again, because a stream can't be sent twice."""
    for attempt in range(1, _ATTEMPTS + 1):
        if target.has_blob(repository, digest):
            return
        try:
            with time_limit(_BLOB_SECONDS), source.open_blob(reference.repository, digest) as blob:
                target.upload_blob(repository, digest, blob)
        except Unreachable as error:
            pause = error.pause_seconds if isinstance(error, TooManyRequests) else 0
            if attempt == _ATTEMPTS or pause > LONGEST_PAUSE:
                raise
            time.sleep(max(attempt, pause))
        else:
            return


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


class CopyingImporter(Importer):
    """An `Importer` that copies the bytes through this machine.

    Args:
        staging: Where images come from.
        production: Where they go.
    """

    def __init__(self, staging: Registry, production: Registry) -> None:
        self._staging = staging
        self._production = production

    @override
    def import_image(self, source: Reference, destination: Reference, *, replace: bool) -> None:
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

    @override
    def import_untagged(self, source: Reference, repository: str) -> None:
        copy_image(self._staging, self._production, source, repository)
