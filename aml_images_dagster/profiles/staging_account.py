"""The account of the staging registry, from the environment."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aml_images_dagster.engine.interface import RegistryLogin

if TYPE_CHECKING:
    from aml_images_dagster.settings import Settings


def staging_account(settings: Settings) -> RegistryLogin | None:
    """STAGING_CLIENT_ID and STAGING_CLIENT_SECRET, which import.cfg refers to; None when they are not set."""
    name, secret = settings.staging_client_id, settings.staging_client_secret
    return RegistryLogin(name, secret.get_secret_value()) if name and secret else None
