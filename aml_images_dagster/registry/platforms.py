"""The images of an index, one for each platform.

Source: https://github.com/opencontainers/image-spec/blob/main/image-index.md; Docker's manifest list has the same form.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from aml_images_dagster.errors import BadInput
from aml_images_dagster.registry.oci import DEEPEST, read_manifest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aml_images_dagster.catalog.reference import Reference
    from aml_images_dagster.registry.interface import Registry

_WITH_VARIANTS = {"arm"}
"""Architectures whose variants are platforms of their own; those of others only use more of a processor."""


def images_of(registry: Registry, reference: Reference) -> dict[str, Reference]:
    """The image of each platform, by platform, by digest; of an image of one platform that one.

    Raises:
        BadInput: There is no such image.
        Unreachable: The registry does not answer.
    """
    manifest = registry.manifest(reference)
    if manifest is None:
        raise BadInput("the registry has no such image", where=str(reference), hint="Is the name right?")
    document = read_manifest(manifest)
    if "manifests" not in document:
        pinned = reference.with_digest(manifest.digest)
        return {platform_of(registry.config(pinned)): pinned}
    found: dict[str, Reference] = {}
    for entry in document["manifests"]:
        platform = platform_of(entry.get("platform") or {})
        if "unknown" not in platform:  # what BuildKit attests is listed as an image of no platform
            found.setdefault(platform, reference.with_digest(entry["digest"]))
    return found


def manifests_below(registry: Registry, reference: Reference) -> tuple[str, ...]:
    """Digests of all manifests that an index refers to, also through others; none for anything else.

    Raises:
        Unreachable: The registry does not answer.
    """
    found: dict[str, None] = {}
    _add_below(registry, reference, found, depth=1)
    return tuple(found)


def platform_of(said: Mapping[str, Any]) -> str:
    """The platform that an entry of an index, or the configuration of an image, names: `linux/arm64`.

    Source: image-spec, "config.md" and "image-index.md".
    """
    parts = [said.get("os"), said.get("architecture")]
    if parts[1] in _WITH_VARIANTS:
        parts.append(said.get("variant"))
    return "/".join(str(part) for part in parts if part)


def _add_below(registry: Registry, reference: Reference, found: dict[str, None], depth: int) -> None:
    """Each manifest once, however often it is referred to."""
    manifest = registry.manifest(reference)
    entries: list[dict[str, Any]] = []
    with suppress(BadInput):  # of a kind that refers to nothing
        entries = read_manifest(manifest).get("manifests", []) if manifest else []
    for entry in entries if depth < DEEPEST else ():
        digest = entry["digest"]
        if digest not in found:
            found[digest] = None
            _add_below(registry, reference.with_digest(digest), found, depth + 1)
