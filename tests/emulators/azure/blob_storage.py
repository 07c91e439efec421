"""A storage account with block blobs in memory, for bearers of a token and for signed URLs.

Source: https://learn.microsoft.com/rest/api/storageservices/blob-service-rest-api. It has what azure-storage-blob asks
for on behalf of adlfs and of the Azure ML SDK. Accounts on this host have no name in the path.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
import threading
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import TYPE_CHECKING
from urllib.parse import urlencode
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from tests.emulators.azure.http_messages import Answer
from tests.emulators.azure.service import AzureService

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.emulators.azure.cloud import EmulatedCloud
    from tests.emulators.azure.http_messages import Request

AUDIENCE = "https://storage.azure.com"
_PAGE = 5000
_METADATA = "x-ms-meta-"


@dataclass
class Blob:
    """A blob.

    Attributes:
        content: Its bytes.
        metadata: Names and values.
        modified: When.
        etag: Changes with every write.
    """

    content: bytes
    metadata: Mapping[str, str] = field(default_factory=dict)
    modified: datetime = field(default_factory=lambda: datetime.now(UTC))
    etag: str = field(default_factory=lambda: f'"0x{uuid.uuid4().hex[:15].upper()}"')

    @property
    def headers(self) -> dict[str, str]:
        """What answers say about it."""
        return {
            "ETag": self.etag,
            "Last-Modified": format_datetime(self.modified, usegmt=True),
            "x-ms-blob-type": "BlockBlob",
            "x-ms-creation-time": format_datetime(self.modified, usegmt=True),
            "Content-Type": "application/octet-stream",
            "Accept-Ranges": "bytes",
            **{f"{_METADATA}{name}": value for name, value in self.metadata.items()},
        }


class BlobStorage(AzureService):
    """The account.

    Args:
        cloud: Where it is.

    Attributes:
        containers: Blobs by name, by container.
        signatures: Signature of each container for which a signed URL was given.
    """

    def __init__(self, cloud: EmulatedCloud) -> None:
        super().__init__(cloud.certificate, cloud.identity, AUDIENCE)
        self.containers: dict[str, dict[str, Blob]] = {}
        self.signatures: dict[str, str] = {}
        self._blocks: dict[tuple[str, str], dict[str, bytes]] = {}
        self._writing = threading.Lock()
        self.route(".*", r"/(?P<container>[^/]+)/?", self._container)
        self.route(".*", r"/(?P<container>[^/]+)/(?P<name>.+)", self._blob)

    def create(self, container: str) -> str:
        """Make a container; its URL."""
        self.containers.setdefault(container, {})
        return f"{self.url}/{container}"

    def put(self, container: str, name: str, content: bytes) -> None:
        """Write a blob."""
        self.containers[container][name] = Blob(content)

    def signed(self, container: str, path: str = "") -> str:
        """A URL with which anybody may read and write a container."""
        signature = self.signatures.setdefault(container, base64.b64encode(secrets.token_bytes(24)).decode())
        query = urlencode({"sv": "2026-02-06", "sr": "c", "sp": "rcwl", "sig": signature})
        return f"{self.url}/{container}{f'/{path}' if path else ''}?{query}"

    def refuse(self, request: Request) -> Answer | None:
        """Also let in who has a signature."""
        container = request.path.split("/")[1]
        if container in self.signatures and request.query.get("sig") == self.signatures[container]:
            return None
        return super().refuse(request)

    def _container(self, request: Request, container: str) -> Answer:
        query = request.query
        if request.method == "PUT":
            if container in self.containers:
                return _error(409, "ContainerAlreadyExists")
            self.create(container)
            return Answer(201)
        if container not in self.containers:
            return _error(404, "ContainerNotFound")
        if query.get("comp") == "list":
            return self._list(container, query)
        now = format_datetime(datetime.now(UTC), usegmt=True)
        return Answer(200, headers={"Last-Modified": now, "ETag": '"0x1"'})

    def _list(self, container: str, query: Mapping[str, str]) -> Answer:
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        entries: dict[str, Blob | None] = {}
        for name, blob in sorted(self.containers[container].items()):
            if name.startswith(prefix):
                head, cut, _ = name[len(prefix) :].partition(delimiter) if delimiter else (name, "", "")
                entries[f"{prefix}{head}{cut}" if cut else name] = None if cut else blob
        names = sorted(entries)
        first = int(query.get("marker") or 0)
        last = first + int(query.get("maxresults") or _PAGE)
        shown = "".join(_entry(name, entries[name]) for name in names[first:last])
        more = str(last) if last < len(names) else ""
        body = (
            f'<?xml version="1.0" encoding="utf-8"?><EnumerationResults ContainerName="{container}">'
            f"<Prefix>{escape(prefix)}</Prefix><Blobs>{shown}</Blobs><NextMarker>{more}</NextMarker>"
            "</EnumerationResults>"
        )
        return Answer(200, headers={"Content-Type": "application/xml"}, content=body.encode())

    def _blob(self, request: Request, container: str, name: str) -> Answer:
        if container not in self.containers:
            return _error(404, "ContainerNotFound")
        if request.method == "PUT":
            with self._writing:
                return self._put(request, container, name)
        blob = self.containers[container].get(name)
        if blob is None:
            return _error(404, "BlobNotFound")
        if request.method == "DELETE":
            self.containers[container].pop(name, None)
            return Answer(202)
        if request.method == "HEAD":
            return Answer(200, headers={**blob.headers, "Content-Length": str(len(blob.content))})
        return _read(request, blob)

    def _put(self, request: Request, container: str, name: str) -> Answer:
        blobs, kind = self.containers[container], request.query.get("comp", "")
        metadata = {
            header.lower().removeprefix(_METADATA): value
            for header, value in request.headers.items()
            if header.lower().startswith(_METADATA)
        }
        if kind == "block":
            self._blocks.setdefault((container, name), {})[request.query["blockid"]] = request.body
            return Answer(201)
        if kind == "metadata":
            if name not in blobs:
                return _error(404, "BlobNotFound")
            blobs[name] = Blob(blobs[name].content, metadata)
            return Answer(200, headers=blobs[name].headers)
        if request.headers.get("If-None-Match") == "*" and name in blobs:
            return _error(409, "BlobAlreadyExists")
        content = request.body
        if kind == "blocklist":
            blocks = self._blocks.pop((container, name), {})
            content = b"".join(blocks[item.text or ""] for item in ElementTree.fromstring(request.body))
        blobs[name] = Blob(content, metadata)
        return Answer(201, headers={**blobs[name].headers, "Content-MD5": _md5(request.body)})


def _read(request: Request, blob: Blob) -> Answer:
    wanted = request.headers.get("x-ms-range") or request.headers.get("Range") or ""
    if not wanted:
        return Answer(200, headers=blob.headers, content=blob.content)
    first, _, last = wanted.removeprefix("bytes=").partition("-")
    size = len(blob.content)
    if int(first) >= size:
        return _error(416, "InvalidRange")
    part = blob.content[int(first) : int(last) + 1 if last else None]
    shown = f"bytes {first}-{int(first) + len(part) - 1}/{size}"
    return Answer(206, headers={**blob.headers, "Content-Range": shown}, content=part)


def _entry(name: str, blob: Blob | None) -> str:
    if blob is None:
        return f"<BlobPrefix><Name>{escape(name)}</Name></BlobPrefix>"
    metadata = "".join(f"<{key}>{escape(value)}</{key}>" for key, value in blob.metadata.items())
    return (
        f"<Blob><Name>{escape(name)}</Name><Properties><Etag>{escape(blob.etag)}</Etag>"
        f"<Last-Modified>{format_datetime(blob.modified, usegmt=True)}</Last-Modified>"
        f"<Content-Length>{len(blob.content)}</Content-Length><BlobType>BlockBlob</BlobType>"
        f"<Content-Type>application/octet-stream</Content-Type></Properties><Metadata>{metadata}</Metadata></Blob>"
    )


def _md5(content: bytes) -> str:
    return base64.b64encode(hashlib.md5(content).digest()).decode()


def _error(status: int, code: str) -> Answer:
    body = f'<?xml version="1.0" encoding="utf-8"?><Error><Code>{code}</Code><Message>{code}</Message></Error>'
    headers = {"x-ms-error-code": code, "Content-Type": "application/xml"}
    return Answer(status, headers=headers, content=body.encode())
