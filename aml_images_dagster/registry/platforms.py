"""The images of an index, one for each platform.

Source: https://github.com/opencontainers/image-spec/blob/main/image-index.md; Docker's manifest list has the same form.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aml_images_dagster.errors import BadInput
from aml_images_dagster.registry.oci import read_manifest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from aml_images_dagster.catalog.reference import Reference
    from aml_images_dagster.registry.interface import Registry

_WITH_VARIANTS = {"arm"}
"""Architectures whose variants are platforms of their own; those of others only use more of a processor."""
_UNKNOWN = "unknown"
"""Operating system and architecture of an entry that is no image, but says something of one."""


@dataclass(frozen=True, slots=True)
class PlatformImage:
    """An image for one platform.

    Attributes:
        platform: E.g. `linux/arm64`.
        digest: Of its manifest.
    """

    platform: str
    digest: str


def images_in(registry: Registry, reference: Reference) -> tuple[PlatformImage, ...]:
    """The images behind a reference: those of an index in its order, or the one that it names.

    Raises:
        BadInput: There is no such image.
        Unreachable: The registry does not answer.
    """
    manifest = registry.manifest(reference)
    if manifest is None:
        raise BadInput("the registry has no such image", where=str(reference), hint="Is the name right?")
    document = read_manifest(manifest)
    if "manifests" not in document:
        return (PlatformImage(_platform(registry.config(reference)), manifest.digest),)
    entries = ((entry["digest"], entry.get("platform")) for entry in document["manifests"])
    images = ((digest, platform) for digest, platform in entries if isinstance(platform, dict))
    return tuple(
        PlatformImage(_platform(platform), digest) for digest, platform in images if platform.get("os") != _UNKNOWN
    )


def manifests_below(registry: Registry, reference: Reference) -> tuple[str, ...]:
    """Digests of all manifests that an index refers to, also through others; none for anything else.

    Raises:
        Unreachable: The registry does not answer.
    """
    return tuple(dict.fromkeys(_below(registry, reference)))


def _below(registry: Registry, reference: Reference) -> Iterator[str]:
    manifest = registry.manifest(reference)
    entries: list[dict[str, Any]] = []
    with suppress(BadInput):  # of a kind that refers to nothing
        entries = read_manifest(manifest).get("manifests", []) if manifest else []
    for entry in entries:
        yield entry["digest"]
        yield from _below(registry, reference.with_digest(entry["digest"]))


def _platform(said: Mapping[str, Any]) -> str:
    """The platform that an entry of an index, or the configuration of an image, names."""
    architecture, variant = str(said.get("architecture", "")), str(said.get("variant", ""))
    parts = [str(said.get("os", "")), architecture]
    if variant and architecture in _WITH_VARIANTS:
        parts.append(variant)
    return "/".join(parts)
