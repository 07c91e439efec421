"""A registry in memory, records of layers, and what reads images of both."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from aml_images_dagster.trust.inventory import Inventory, read_inventory
from aml_images_dagster.trust.layer_records import LayerRecords
from tests.trust.images import MemoryRegistry

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def registry() -> MemoryRegistry:
    return MemoryRegistry()


@pytest.fixture
def records(tmp_path: Path) -> LayerRecords:
    return LayerRecords(tmp_path / "layers")


@pytest.fixture
def read(registry: MemoryRegistry, records: LayerRecords) -> Callable[..., Inventory]:
    """Reads an image of these layers."""

    def read(*layers: Any, contents: Any = ()) -> Inventory:
        return read_inventory(registry, registry.push(*layers), records, contents)

    return read
