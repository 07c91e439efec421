"""Settings of upstream."""

from __future__ import annotations

from aml_images_dagster.settings.group import Group


class UpstreamSettings(Group):
    """Watching the external bases."""
