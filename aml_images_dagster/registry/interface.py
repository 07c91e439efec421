"""The interface of image registries. Implementations: `oci.py`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from aml_images_dagster.errors import Unreachable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from contextlib import AbstractContextManager

    from aml_images_dagster.catalog.reference import Reference
    from aml_images_dagster.registry.blob import VerifiedBlob


class NoAnswer(Unreachable):
    """Nothing answers at the registry's address, as opposed to a registry that refuses."""


class TooManyRequests(Unreachable):
    """A registry refuses a request because there are too many of them.

    Attributes:
        pause_seconds: How long it wants to be left alone; 0 when it does not say.
    """

    def __init__(self, what: str, *, where: str = "", hint: str = "", pause_seconds: float = 0) -> None:
        super().__init__(what, where=where, hint=hint)
        self.pause_seconds = pause_seconds


@dataclass(frozen=True, slots=True)
class Manifest:
    """A manifest as the registry serves it.

    Attributes:
        digest: sha256 of `body`.
        media_type: Media type of `body`.
        body: The bytes; a copy of the image must send exactly these.
    """

    digest: str
    media_type: str
    body: bytes


class Registry(Protocol):
    """A registry that speaks the OCI distribution protocol.

    Source: https://github.com/opencontainers/distribution-spec. Every method raises `Unreachable`
    when the registry does not answer or refuses.
    """

    host: str

    @property
    def url(self) -> str:
        """Scheme and host, for links."""

    def ping(self) -> None:
        """Make sure that the registry answers."""

    def digest(self, reference: Reference) -> str | None:
        """The digest behind a tag or digest; None when there is none."""

    def manifest(self, reference: Reference) -> Manifest | None:
        """The manifest behind a tag or digest; None when there is none."""

    def existing(self, reference: Reference) -> Manifest:
        """The manifest behind a tag or digest.

        Raises:
            BadInput: There is none.
        """

    def put_manifest(self, repository: str, version: str, manifest: Manifest) -> None:
        """Store a manifest under a tag or its digest, and read back that it is there."""

    def send_manifest(self, repository: str, version: str, manifest: Manifest) -> object:
        """The same without reading back: for a tag that others may write at the same moment."""

    def referrers(self, repository: str, digest: str) -> Sequence[Mapping[str, Any]] | None:
        """Descriptors of all manifests that have this one as their subject; None when the registry keeps no list."""

    def referrers_tags(self, repository: str) -> Sequence[str]:
        """The tags of indexes of what is attached to images, where the registry keeps no list."""

    def has_blob(self, repository: str, digest: str) -> bool:
        """Whether a repository has a blob."""

    def upload_blob(self, repository: str, digest: str, body: bytes | VerifiedBlob) -> None:
        """Store a blob."""

    def config(self, reference: Reference) -> Mapping[str, Any]:
        """The image configuration (OS, architecture, labels) of a single-platform image."""

    def open_blob(self, repository: str, digest: str) -> AbstractContextManager[VerifiedBlob]:
        """Read a blob without holding it in memory; reading to the end verifies it.

        Raises:
            BadInput: There is no such blob.
        """

    def size_bytes(self, reference: Reference) -> int:
        """Compressed size: the sum of all layers and the configuration; for an index: of one of its images."""

    def repositories(self) -> Sequence[str]:
        """All repositories, all pages."""

    def tags(self, repository: str) -> Sequence[str]:
        """All tags of images in a repository, all pages; none for an unknown repository."""

    def tag(self, reference: Reference, tag: str) -> None:
        """Give an existing image one more tag; no layer moves."""

    def untag(self, reference: Reference) -> None:
        """Remove one tag and leave every other tag of the same digest alone. Absent is fine."""

    def delete(self, reference: Reference) -> None:
        """Remove a digest and with it every tag that points to it. Absent is fine."""
