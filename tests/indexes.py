"""Indexes of images for several platforms, pushed to a real registry."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

from aml_images_dagster.registry.copy import copy_image
from aml_images_dagster.registry.interface import Manifest
from aml_images_dagster.registry.oci import OCI_INDEX

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aml_images_dagster.catalog.reference import Reference
    from aml_images_dagster.registry.oci import OciRegistry


def push_index(registry: OciRegistry, images: Mapping[str, Reference], target: Reference) -> Reference:
    """Push an index of images, by platform, to a tag; by its digest."""
    entries = []
    for platform, image in images.items():
        copy_image(registry, registry, image, target.repository)
        manifest = registry.existing(image)
        os_, architecture = platform.split("/")
        described = {"mediaType": manifest.media_type, "digest": manifest.digest, "size": len(manifest.body)}
        entries.append({**described, "platform": {"os": os_, "architecture": architecture}})
    body = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}).encode()
    index = Manifest(f"sha256:{hashlib.sha256(body).hexdigest()}", OCI_INDEX, body)
    if registry.digest(target) != index.digest:
        registry.put_manifest(target.repository, target.tag, index)
    return target.with_digest(index.digest)
