"""Registries with faults and with logins, in front of the real staging registry."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trustme

from tests.emulators.faulty_registry import FaultyRegistry

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from aml_images_dagster.registry.oci import OciRegistry


@pytest.fixture
def front(staging: OciRegistry) -> Iterator[FaultyRegistry]:
    """A front of the staging registry."""
    with FaultyRegistry(staging.host) as front:
        yield front


@pytest.fixture
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> trustme.CA:
    """A certificate authority that this process trusts."""
    authority = trustme.CA()
    bundle = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(bundle))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(bundle))
    return authority
