"""Settings of release."""

from __future__ import annotations

from aml_images_dagster.settings.group import Group


class ReleaseSettings(Group):
    """Releases into production."""
