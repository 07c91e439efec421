"""Dependents of a release: images that are FROM a released image and not yet released on it."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from aml_images_dagster.builds.ledger import LATEST
from aml_images_dagster.catalog.graph import descendants
from aml_images_dagster.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aml_images_dagster.builds.artifacts import Artifacts
    from aml_images_dagster.builds.ledger import ReleaseRecord
    from aml_images_dagster.catalog.catalog import Catalog


def dependents(
    record: ReleaseRecord, catalog: Catalog, artifacts: Artifacts, records: Sequence[ReleaseRecord]
) -> dict[str, tuple[str, ...]]:
    """The images to build after a release, with the reasons, parents first.

    Args:
        record: The release.
        catalog: What is FROM what.
        artifacts: What the builds of earlier releases are built on.
        records: Every release.

    Returns:
        Image → reasons. Images of the release itself, those past their end of life, and those that were last released
        on the released digests already are left out.
    """
    released = {change.image: change.after for change in record.changes if change.tag == LATEST and change.after}
    buildable = set(catalog.select_default())
    found: dict[str, tuple[str, ...]] = {}
    for image, because in descendants(catalog.parents, released).items():
        outdated = [
            parent
            for parent in because
            if parent in found or (parent in released and not _is_built_on(image, released[parent], artifacts, records))
        ]
        if outdated and image in buildable:
            found[image] = tuple(
                f"FROM {parent}" + (f", released as {record.release_tag}" if parent in released else "")
                for parent in outdated
            )
    return found


def _is_built_on(image: str, digest: str, artifacts: Artifacts, records: Sequence[ReleaseRecord]) -> bool:
    """Whether the last release of an image was built from a digest; not if its record cannot be read."""
    last = next((r for r in reversed(records) if r.done and r.action == "release" and r.change(image, LATEST)), None)
    with suppress(BadInput):  # one that is damaged must not keep what follows other releases from being known
        staged = artifacts.build(last.build).read_staged(image) if last else None
        return staged is not None and digest in {base.digest for base in staged.bases}
    return False
