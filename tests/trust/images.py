"""Images made by hand: layers of files, in a registry in memory."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from contextlib import contextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from aml_images_dagster.catalog.reference import Reference
from aml_images_dagster.errors import BadInput, Unreachable
from aml_images_dagster.registry.interface import Manifest, VerifiedBlob
from aml_images_dagster.registry.oci import OCI_CONFIG, OCI_INDEX, OCI_MANIFEST, read_manifest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from aml_images_dagster.registry.oci import OciRegistry

REPOSITORY = "tests/image"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
CREATED = "2026-11-26T06:23:06.123456789Z"


@dataclass(frozen=True)
class Link:
    """A symbolic link, or a hard one, in a layer."""

    target: str
    hard: bool = False


class Folder:
    """A folder in a layer."""


Entry = str | bytes | Link | Folder


def archive(files: Mapping[str, Entry] | Sequence[tuple[str, Entry]]) -> bytes:
    """A tar archive; several entries may have the same name."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, content in files.items() if hasattr(files, "items") else files:
            entry = tarfile.TarInfo(name)
            data = b""
            match content:
                case Link():
                    entry.type = tarfile.LNKTYPE if content.hard else tarfile.SYMTYPE
                    entry.linkname = content.target
                case Folder():
                    entry.type = tarfile.DIRTYPE
                case str() | bytes():
                    data = content.encode() if isinstance(content, str) else content
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


def digest_of(body: bytes) -> str:
    return f"sha256:{hashlib.sha256(body).hexdigest()}"


class MemoryRegistry:
    """Images of layers. `opened` has the digest of every blob that was read."""

    host = "registry.example"

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}
        self.manifests: dict[str, Manifest] = {}
        self.opened: list[str] = []

    def push(self, *layers: bytes | Mapping[str, Entry], **config: Any) -> Reference:
        """Add an image: layers by their files, or as bytes; and what its configuration is to say."""
        described, contents = [], []
        for layer in layers:
            content = layer if isinstance(layer, bytes) else archive(layer)
            body = content if isinstance(layer, bytes) else gzip.compress(content, mtime=0)
            described.append({"mediaType": LAYER, **self._upload(body)})
            contents.append(digest_of(content))
        about = {"os": "linux", "architecture": "amd64", "created": CREATED} | config
        about["rootfs"] = {"type": "layers", "diff_ids": contents}
        document = {
            "config": {"mediaType": OCI_CONFIG, **self._upload(json.dumps(about).encode())},
            "layers": described,
        }
        return self._put(document, OCI_MANIFEST)

    def push_index(self, *entries: dict[str, Any]) -> Reference:
        """Add an index of descriptors."""
        return self._put({"manifests": list(entries)}, OCI_INDEX)

    def _put(self, document: dict[str, Any], media_type: str) -> Reference:
        body = json.dumps({"schemaVersion": 2, "mediaType": media_type} | document).encode()
        digest = digest_of(body)
        self.manifests[digest] = Manifest(digest, media_type, body)
        return Reference(self.host, REPOSITORY, digest=digest)

    def _upload(self, body: bytes) -> dict[str, Any]:
        digest = digest_of(body)
        self.blobs[digest] = body
        return {"digest": digest, "size": len(body)}

    def copy_to(self, registry: OciRegistry, repository: str, image: Reference, tag: str = "1") -> Reference:
        """Push an image of this registry to a real one."""
        manifest = self.manifests[image.digest]
        document = read_manifest(manifest)
        for entry in document.get("manifests", ()):
            self.copy_to(registry, repository, image.with_digest(entry["digest"]), entry["digest"])
        for blob in (document["config"], *document["layers"]) if "layers" in document else ():
            if not registry.has_blob(repository, blob["digest"]):
                registry.upload_blob(repository, blob["digest"], self.blobs[blob["digest"]])
        registry.put_manifest(repository, tag, manifest)
        return Reference(registry.host, repository, digest=manifest.digest)

    def digest(self, reference: Reference) -> str | None:
        return reference.digest if reference.digest in self.manifests else None

    def size_bytes(self, reference: Reference) -> int:
        document = read_manifest(self.manifests[reference.digest])
        return sum(blob["size"] for blob in (document["config"], *document["layers"]))

    def manifest(self, reference: Reference) -> Manifest | None:
        return self.manifests.get(reference.digest)

    def config(self, reference: Reference) -> Any:
        manifest = self.manifest(reference)
        if manifest is None:
            raise BadInput("the registry has no such image", where=str(reference))
        return json.loads(self.blobs[read_manifest(manifest)["config"]["digest"]])

    @contextmanager
    def open_blob(self, _repository: str, digest: str) -> Iterator[VerifiedBlob]:
        self.opened.append(digest)
        answer: Any = SimpleNamespace(raw=io.BytesIO(self.blobs[digest]), headers={})
        yield VerifiedBlob(answer, digest, Unreachable, lambda what, wanted, got: Unreachable(f"{what} {wanted} {got}"))
