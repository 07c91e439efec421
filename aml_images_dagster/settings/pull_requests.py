"""Settings of pull requests."""

from __future__ import annotations

from aml_images_dagster.settings.group import Group


class PullRequestSettings(Group):
    """Builds of pull requests."""
