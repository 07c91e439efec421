"""Fixtures of the tests of Azure parts; tests/conftest.py makes them known."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from aml_images_dagster.identity.credential import shared_credential
from tests.emulators.azure.cloud import EmulatedCloud

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def cloud(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[EmulatedCloud]:
    """An emulated Azure; this process's environment leads there, and to no other."""
    for name in os.environ:
        if name.startswith(("AML_IMAGES_", "AZURE_", "IDENTITY_", "MSI_")):
            monkeypatch.delenv(name)
    with EmulatedCloud(tmp_path) as cloud:
        for name, value in cloud.environment.items():
            monkeypatch.setenv(name, value)
        shared_credential.cache_clear()
        yield cloud
        shared_credential.cache_clear()
