"""Profiles: the backend for each interface. No other package names backends."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aml_images_dagster.profiles.azure import azure_backends
from aml_images_dagster.profiles.local import local_backends

if TYPE_CHECKING:
    from aml_images_dagster.builds.backends import Backends
    from aml_images_dagster.settings import Settings

_PROFILES = {"local": local_backends, "azure": azure_backends}


def backends_for(settings: Settings) -> Backends:
    """The backends of the configured profile. Backends connect when they are first used."""
    return _PROFILES[settings.profile](settings)
