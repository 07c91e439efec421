"""What is attached to an image: artifacts whose manifest names the image as its subject.

A registry with the referrers API keeps the list of them. For one without it the client keeps an index at the tag
`sha256-<hex>`, which nothing protects from another client that writes at the same moment. So everything of one image is
attached in one step with one write of the index, which is then read until it stays as it should be.

Source: https://github.com/opencontainers/distribution-spec/blob/v1.1.0/spec.md, "Pushing Manifests with Subject" and
"Listing Referrers"; image-spec v1.1, manifest.md, "Guidelines for Artifact Usage".
"""

from __future__ import annotations

import hashlib
import json
import random
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from aml_images_dagster.bounded import TooLong, joined
from aml_images_dagster.catalog.reference import Reference
from aml_images_dagster.errors import BadInput, Unreachable
from aml_images_dagster.registry.copy import copy_image
from aml_images_dagster.registry.interface import Manifest
from aml_images_dagster.registry.oci import (
    OCI_INDEX,
    OCI_MANIFEST,
    is_descriptor,
    read_manifest,
    referrers_tag,
    subject_of_tag,
)
from aml_images_dagster.registry.platforms import manifests_below

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from datetime import date

    from aml_images_dagster.registry.interface import Registry


_EMPTY = b"{}"
_EMPTY_TYPE = "application/vnd.oci.empty.v1+json"
_EMPTY_CONFIG = {
    "mediaType": _EMPTY_TYPE,
    "digest": "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a",
    "size": len(_EMPTY),
    "data": "e30=",
}
"""Source: image-spec, "Guidance for an Empty Descriptor"."""

_DEEPEST = 4
"""An image, its SBOM, the signature of that, and one more."""
_AT_ONCE = 4
_MOST_ARTIFACTS = 2000
_MOST_ENTRIES = 1000
_LONGEST_CONTENT = 64 * 2**20
_SETTLE_SECONDS = 60.0
_CALM = 2
"""How often in a row an index that clients keep must be as it should, before nobody is about to write it."""
_PAUSE_SECONDS = (0.05, 0.15)


@dataclass(frozen=True, slots=True)
class Descriptor:
    """What names content. Source: image-spec, "descriptor.md".

    Attributes:
        media_type: Media type of the content.
        digest: Its digest.
        size: Its size in bytes.
    """

    media_type: str
    digest: str
    size: int

    @classmethod
    def of(cls, manifest: Manifest) -> Descriptor:
        """The descriptor of a manifest."""
        return cls(manifest.media_type, manifest.digest, len(manifest.body))

    @property
    def document(self) -> dict[str, Any]:
        """As it is written."""
        return {"mediaType": self.media_type, "digest": self.digest, "size": self.size}


@dataclass(frozen=True, slots=True)
class Artifact:
    """Something to attach. The same artifact for the same image has the same bytes, so attaching it twice is one.

    Attributes:
        artifact_type: What it is, e.g. `application/spdx+json`.
        content: Its content.
        media_type: Media type of the content; empty: the artifact type.
        annotations: Of its manifest.
        attached: What is attached to the artifact itself, such as its signature.
    """

    artifact_type: str
    content: bytes = field(repr=False)
    media_type: str = ""
    annotations: Mapping[str, str] = field(default_factory=dict)
    attached: tuple[Artifact, ...] = ()

    @property
    def content_digest(self) -> str:
        """Digest of its content."""
        return _sha256(self.content)

    def manifest(self, subject: Descriptor) -> Manifest:
        """The manifest of the artifact when it is attached to a subject."""
        media_type = self.media_type or self.artifact_type
        layer = {"mediaType": media_type, "digest": self.content_digest, "size": len(self.content)}
        document = {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "artifactType": self.artifact_type,
            "config": _EMPTY_CONFIG,
            "layers": [layer],
            "subject": subject.document,
        }
        if self.annotations:
            document["annotations"] = dict(sorted(self.annotations.items()))
        return _manifest(document, OCI_MANIFEST)


def end_of_life(day: date) -> Artifact:
    """What says that an image is not to be used from a day on.

    Source: https://learn.microsoft.com/azure/container-registry/container-registry-manage-artifact and the tags of
    Microsoft's own images: an artifact without content, whose annotation has the day.
    """
    annotations = {"vnd.microsoft.artifact.lifecycle.end-of-life.date": day.isoformat()}
    return Artifact("application/vnd.microsoft.artifact.lifecycle", _EMPTY, _EMPTY_TYPE, annotations)


@dataclass(frozen=True, slots=True)
class Attached:
    """An artifact that is attached to something.

    Attributes:
        descriptor: Its manifest.
        artifact_type: What it is; empty where the list does not say.
        annotations: Of its manifest.
        subject: Digest of what it is attached to: the image, or another artifact.
    """

    descriptor: Descriptor
    artifact_type: str
    annotations: Mapping[str, str]
    subject: str

    @property
    def digest(self) -> str:
        """Digest of its manifest."""
        return self.descriptor.digest

    @property
    def entry(self) -> dict[str, Any]:
        """As a list of referrers has it."""
        entry = self.descriptor.document
        if self.artifact_type:
            entry["artifactType"] = self.artifact_type
        if self.annotations:
            entry["annotations"] = dict(sorted(self.annotations.items()))
        return entry


def attach(registry: Registry, image: Reference, artifacts: Sequence[Artifact]) -> list[str]:
    """Attach everything of an image in one step.

    Args:
        registry: Where the image is.
        image: The image; a tag stands for the digest behind it.
        artifacts: What to attach.

    Returns:
        The digests of the artifacts, in their order.

    Raises:
        BadInput: There is no such image.
        Unreachable: The registry does not answer, refuses, or does not list what was attached.
    """
    subject = Descriptor.of(registry.existing(image))
    pushed = push(registry, image.with_digest(subject.digest), artifacts)
    settle(registry, image.repository, pushed)
    return [each.digest for each in pushed[subject.digest]] if artifacts else []


def push(registry: Registry, image: Reference, artifacts: Sequence[Artifact]) -> dict[str, list[Attached]]:
    """Push all that is to be attached to an image, artifacts side by side; `settle` says so in the lists.

    Args:
        registry: Where the image is.
        image: The image, by digest.
        artifacts: What to attach.

    Returns:
        What the list of each subject is to have, in the order in which they are to be written.

    Raises:
        BadInput: There is no such image.
        Unreachable: The registry does not answer or refuses.
    """
    subject = Descriptor.of(registry.existing(image))
    if not artifacts:
        return {}
    _upload(registry, image.repository, _EMPTY)
    pool = ThreadPoolExecutor(_AT_ONCE)
    try:
        pushed = list(pool.map(lambda artifact: _push(registry, image.repository, subject, artifact), artifacts))
    finally:
        pool.shutdown(cancel_futures=True)  # a step that is stopped sends nothing more
    lists = {found: of for _, below in pushed for found, of in below.items()}
    return {**lists, subject.digest: [attached for attached, _ in pushed]}


def _push(
    registry: Registry, repository: str, subject: Descriptor, artifact: Artifact
) -> tuple[Attached, dict[str, list[Attached]]]:
    """Push an artifact, and then what is attached to it; what lists must have: who finds one finds its signature."""
    manifest = artifact.manifest(subject)
    if artifact.content != _EMPTY:
        _upload(registry, repository, artifact.content)
    registry.put_manifest(repository, manifest.digest, manifest)
    descriptor = Descriptor.of(manifest)
    lists: dict[str, list[Attached]] = {}
    own = []
    for each in artifact.attached:
        attached, below = _push(registry, repository, descriptor, each)
        own.append(attached)
        lists |= below
    if own:
        lists[descriptor.digest] = own
    return Attached(descriptor, artifact.artifact_type, artifact.annotations, subject.digest), lists


def _upload(registry: Registry, repository: str, content: bytes) -> None:
    digest = _sha256(content)
    if not registry.has_blob(repository, digest):
        registry.upload_blob(repository, digest, content)


def listed(registry: Registry, image: Reference) -> list[Attached]:
    """What is attached to an image, or to another manifest, itself.

    Args:
        registry: Where it is.
        image: A reference with a digest.

    Raises:
        Unreachable: The registry does not answer, refuses, or what it says is no list of artifacts.
    """
    entries = registry.referrers(image.repository, image.digest)
    if entries is None:
        entries = _index_entries(registry, image.repository, image.digest)
    return [_attached(registry, entry, image.digest) for entry in entries]


def walk(registry: Registry, image: Reference) -> Iterator[Attached]:
    """All artifacts of an image and those of the artifacts, each before what is attached to it.

    For an index of several platforms: those of its images as well. An entry of a list counts only if the artifact is
    there and names the subject itself: whoever may push can write any digest into a list that clients keep, that of
    another image too.

    Raises:
        Unreachable: See `listed`; also if there are too many.
    """
    seen: set[str] = set()
    for digest in (image.digest, *manifests_below(registry, image)):
        yield from _walk(registry, image.with_digest(digest), seen, 1)


def _walk(registry: Registry, of: Reference, seen: set[str], depth: int) -> Iterator[Attached]:
    for attached in listed(registry, of):
        if attached.digest in seen:
            continue
        seen.add(attached.digest)
        if depth > _DEEPEST or len(seen) > _MOST_ARTIFACTS:
            raise Unreachable(
                "there are artifacts without end",
                where=str(of),
                hint="Something else attaches to this image: look with `oras discover`.",
            )
        if not _names_subject(registry, of.repository, attached):
            continue
        yield attached
        yield from _walk(registry, of.with_digest(attached.digest), seen, depth + 1)


def content_of(registry: Registry, repository: str, attached: Attached) -> tuple[str, bytes]:
    """Media type and bytes of an artifact that has one content.

    Raises:
        BadInput: It is gone, is attached to something else, or has another form.
        Unreachable: The registry does not answer, or the bytes do not match their digest.
    """
    reference = Reference(registry.host, repository, digest=attached.digest)
    document = read_manifest(registry.existing(reference))
    layers = document.get("layers") or []
    if _subject(document) != attached.subject:
        raise BadInput(f"it is not attached to {attached.subject}", where=str(reference), hint="Remove it.")
    if len(layers) != 1 or layers[0]["size"] > _LONGEST_CONTENT:
        raise BadInput("it does not have one content of a usual size", where=str(reference), hint="Remove it.")
    with registry.open_blob(repository, layers[0]["digest"]) as blob:
        try:
            return str(layers[0].get("mediaType", "")), joined(blob, layers[0]["size"])
        except TooLong:
            raise BadInput("its content is longer than it says", where=str(reference), hint="Remove it.") from None


def copy(
    source: Registry,
    target: Registry,
    image: Reference,
    repository: str,
    bring: Callable[[Reference, str], None] | None = None,
) -> list[str]:
    """Copy all that is attached to an image, to a copy of the image; then read back that all of it is listed there.

    Args:
        source: Where the image is.
        target: Where its copy is.
        image: The image, with its digest.
        repository: Repository of the copy.
        bring: Brings one manifest, by digest, into a repository of the target; default: through this machine.

    Returns:
        The digests of the artifacts.

    Raises:
        Unreachable: A registry does not answer or refuses, or the target does not list everything.
    """
    by_subject: dict[str, list[Attached]] = {}
    for attached in walk(source, image):
        by_subject.setdefault(attached.subject, []).append(attached)
    # The signature of an artifact before the artifact, and last what is attached to the image.
    lists = dict(reversed(by_subject.items()))
    for attached in (attached for group in lists.values() for attached in group):
        artifact = image.with_digest(attached.digest)
        if bring is None:
            copy_image(source, target, artifact, repository)
        else:
            bring(artifact, repository)
    settle(target, repository, lists)
    return [attached.digest for group in by_subject.values() for attached in group]


def missing(source: Registry, target: Registry, image: Reference, repository: str) -> list[Attached]:
    """What is attached to an image and not to its copy."""
    there = {attached.digest for attached in walk(target, Reference(target.host, repository, digest=image.digest))}
    return [attached for attached in walk(source, image) if attached.digest not in there]


def delete(registry: Registry, image: Reference) -> list[str]:
    """Delete an image and all that is attached to it; absent is fine.

    The images of an index of several platforms keep theirs: another index may have the same image.

    Args:
        registry: Where the image is.
        image: The image; a tag stands for the digest behind it, with all its tags.

    Returns:
        The digests that were deleted.

    Raises:
        Unreachable: The registry does not answer or refuses.
    """
    digest = image.digest or registry.digest(image)
    if digest is None:
        return []
    gone = detach(registry, image.with_digest(digest))
    registry.delete(image.with_digest(digest))
    return [*gone, digest]


def detach(registry: Registry, image: Reference) -> list[str]:
    """Delete all that is attached to an image, which may be gone, and leave the image itself.

    What is attached to an artifact goes before the artifact, so that what an interruption leaves is found again.

    Args:
        registry: Where the image is, or was.
        image: A reference with a digest.

    Returns:
        The digests that were deleted.

    Raises:
        Unreachable: The registry does not answer or refuses.
    """
    gone = [attached.digest for attached in reversed([*_walk(registry, image, set(), 1)])]
    for each in gone:
        _drop_index(registry, image.repository, each)
        registry.delete(image.with_digest(each))
    _drop_index(registry, image.repository, image.digest)
    return gone


def lists(registry: Registry, repository: str) -> set[str]:
    """The digests of manifests that have an index of what is attached to them; they themselves may be gone.

    A registry with the referrers API has none: it deletes what is attached with the image.
    """
    return {subject_of_tag(tag) for tag in registry.referrers_tags(repository)}


def settle(registry: Registry, repository: str, lists: Mapping[str, Sequence[Attached]]) -> None:
    """See to it that the list of each subject has some artifacts; keep the lists where the registry keeps none.

    They are written in their order, and then waited for together.

    Raises:
        Unreachable: The registry does not answer, refuses, or does not list what was attached.
    """
    give_up = time.monotonic() + _SETTLE_SECONDS
    calm = dict.fromkeys(lists, 0)
    tries = 0
    keeps_lists = True
    while calm and time.monotonic() < give_up:
        is_written = False
        for subject in [*calm]:
            # A registry that keeps no list of one manifest keeps none of the others, which are there, too.
            entries = registry.referrers(repository, subject) if keeps_lists else None
            keeps_lists = entries is not None
            if entries is None:
                entries = _index_entries(registry, repository, subject)
            if {attached.digest for attached in lists[subject]} <= {entry["digest"] for entry in entries}:
                calm[subject] += 1
                if keeps_lists or calm[subject] == _CALM:
                    del calm[subject]
            elif not keeps_lists:
                calm[subject] = 0
                _write_index(registry, repository, subject, [*entries, *(each.entry for each in lists[subject])])
                is_written = True
        if is_written:
            # The first write is looked at again at once; who meets others gives way for longer each time.
            time.sleep(random.random() * 0.05 * tries)  # noqa: S311
            tries += 1
        elif calm:
            time.sleep(random.uniform(*_PAUSE_SECONDS))  # noqa: S311
    if calm:
        raise Unreachable(
            "the registry does not list what was attached",
            where=f"{registry.host}/{repository}@{next(iter(calm))}",
            hint="Something else changes the list all the time, or the registry loses it.",
        )


def _write_index(registry: Registry, repository: str, subject: str, entries: Iterable[Mapping[str, Any]]) -> None:
    """Write the index that clients keep.

    The one before stays without a tag: another client may write its bytes again while they are deleted, and a tag that
    leads to them would go with them.
    """
    by_digest = {entry["digest"]: entry for entry in entries}
    ordered = [by_digest[digest] for digest in sorted(by_digest)]
    index = _manifest({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": ordered}, OCI_INDEX)
    registry.send_manifest(repository, referrers_tag(subject), index)


def _index_entries(registry: Registry, repository: str, subject: str) -> list[Mapping[str, Any]]:
    reference = Reference(registry.host, repository, referrers_tag(subject))
    manifest = registry.manifest(reference)
    if manifest is None:
        return []
    document = _document(manifest)
    entries = document.get("manifests") if document.get("mediaType", OCI_INDEX) == OCI_INDEX else None
    if not isinstance(entries, list) or len(entries) > _MOST_ENTRIES or not all(map(is_descriptor, entries)):
        raise Unreachable(
            "this is no index of artifacts",
            where=str(reference),
            hint="The tag is that of what is attached to an image: remove what is there.",
        )
    return entries


def _drop_index(registry: Registry, repository: str, subject: str) -> None:
    reference = Reference(registry.host, repository, referrers_tag(subject))
    digest = registry.digest(reference)
    if digest is not None:
        registry.delete(reference.with_digest(digest))


def _names_subject(registry: Registry, repository: str, attached: Attached) -> bool:
    manifest = registry.manifest(Reference(registry.host, repository, digest=attached.digest))
    return manifest is not None and _subject(_document(manifest)) == attached.subject


def _subject(document: Mapping[str, Any]) -> str:
    subject = document.get("subject")
    return str(subject.get("digest")) if isinstance(subject, dict) else ""


def _attached(registry: Registry, entry: Mapping[str, Any], subject: str) -> Attached:
    media_type, artifact_type = entry.get("mediaType", ""), entry.get("artifactType", "")
    annotations = entry.get("annotations") or {}
    texts = (media_type, artifact_type, *annotations, *annotations.values()) if isinstance(annotations, dict) else (0,)
    if not all(isinstance(text, str) for text in texts):
        raise Unreachable(
            f"what is attached to {subject} is not described as it must be",
            where=registry.host,
            hint="Is there a proxy or another server at this address?",
        )
    return Attached(Descriptor(media_type, entry["digest"], entry["size"]), artifact_type, annotations, subject)


def _manifest(document: Mapping[str, Any], media_type: str) -> Manifest:
    body = json.dumps(document, separators=(",", ":")).encode()
    return Manifest(_sha256(body), media_type, body)


def _document(manifest: Manifest) -> Mapping[str, Any]:
    try:
        document = json.loads(manifest.body)
    except (ValueError, RecursionError):
        document = None
    return document if isinstance(document, dict) else {}


def _sha256(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"
