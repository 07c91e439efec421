"""Settings of azure."""

from __future__ import annotations

from aml_images_dagster.settings.group import Group


class AzureSettings(Group):
    """The profile `azure`: where things are in Azure. Names and ids only, never a secret."""
