"""The interface of image registries, and of their blobs. Implementations: `oci.py`, `acr.py`."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import urllib3.exceptions

from aml_images_dagster.errors import Unreachable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

    import requests

    from aml_images_dagster.catalog.reference import Reference

PIECE_BYTES = 1 << 20


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
        """Give an existing image one more tag, and read back that it serves the image; no layer moves."""

    def untag(self, reference: Reference) -> None:
        """Remove one tag and leave every other tag of the same digest alone. Absent is fine."""

    def delete(self, reference: Reference) -> None:
        """Remove a digest and with it every tag that points to it. Absent is fine."""


class VerifiedBlob:
    """A blob that is read once from a network; its end raises unless the bytes match the digest.

    It has what requests wants of a body of known length: `read`, `__iter__` and `len`.

    Args:
        answer: The answer whose body the blob is.
        digest: Its digest.
        broken: Makes the exception for an interrupted transfer, from the reason.
        corrupt: Makes the exception for wrong bytes, from a name, the wanted digest and the one found.
    """

    def __init__(
        self,
        answer: requests.Response,
        digest: str,
        broken: Callable[[str], Exception],
        corrupt: Callable[[str, str, str], Exception],
    ) -> None:
        self._source = answer.raw
        self._digest = digest
        self._broken = broken
        self._corrupt = corrupt
        self._algorithm = digest.partition(":")[0]
        self._seen = hashlib.new(self._algorithm)
        length = answer.headers.get("Content-Length", "")
        if re.fullmatch(r"[0-9]{1,18}", length):
            self.len = int(length)

    def read(self, size: int = -1) -> bytes:
        """Read on, to the end if `size` is negative."""
        try:
            piece: bytes = self._source.read(None if size < 0 else size)
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise self._broken(str(error)) from None
        self._seen.update(piece)
        if size < 0 or (size and not piece):
            found = f"{self._algorithm}:{self._seen.hexdigest()}"
            if found != self._digest:
                raise self._corrupt("a blob", self._digest, found)
        return piece

    def __iter__(self) -> Iterator[bytes]:
        return iter(lambda: self.read(PIECE_BYTES), b"")
