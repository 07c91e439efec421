"""The files of an image, by records that were not there before."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from aml_images_dagster.trust.layer_records import LayerRecords

if TYPE_CHECKING:
    from collections.abc import Iterable

    from aml_images_dagster.catalog.reference import Reference
    from aml_images_dagster.registry.interface import Registry


def files_in(registry: Registry, image: Reference, paths: Iterable[str]) -> dict[str, bool]:
    """See `LayerRecords.files_in`."""
    with tempfile.TemporaryDirectory() as folder:
        return LayerRecords(Path(folder)).files_in(registry, image, paths)
