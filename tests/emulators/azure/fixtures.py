"""Fixtures of the tests of backends in Azure; tests/conftest.py makes them known."""

from __future__ import annotations

import os
import ssl
from typing import TYPE_CHECKING

import pytest

from aml_images_dagster.identity.credential import shared_credential
from tests.emulators.azure.blob_storage import BlobStorage
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


@pytest.fixture
def blob_account(cloud: EmulatedCloud, monkeypatch: pytest.MonkeyPatch) -> BlobStorage:
    """A storage account, which the settings name."""
    account = cloud.start(BlobStorage(cloud))
    # aiohttp reads SSL_CERT_FILE when it is imported, which another test may have done long ago.
    monkeypatch.setattr("aiohttp.connector._SSL_CONTEXT_VERIFIED", ssl.create_default_context())
    cloud.environment["AML_IMAGES_AZURE__STORAGE_ACCOUNT"] = account.host
    monkeypatch.setenv("AML_IMAGES_AZURE__STORAGE_ACCOUNT", account.host)
    return account
