"""What a team configures: one typed object, and where its values come from."""

from aml_images_dagster.settings.loading import find_repository, load_settings
from aml_images_dagster.settings.settings import ENV_PREFIX, Settings
from aml_images_dagster.settings.unknown_variables import unknown_variables

__all__ = ["ENV_PREFIX", "Settings", "find_repository", "load_settings", "unknown_variables"]
