"""What a team configures: one typed object, and where its values come from."""

from aml_images_dagster.settings.loading import find_repository, load_settings
from aml_images_dagster.settings.settings import ENV_PREFIX, Settings

__all__ = ["ENV_PREFIX", "Settings", "find_repository", "load_settings"]
