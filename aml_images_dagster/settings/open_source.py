"""Settings of open source."""

from __future__ import annotations

from aml_images_dagster.settings.group import Group


class OpenSourceSettings(Group):
    """The sync of the public part of the image folders to an open-source repository."""
