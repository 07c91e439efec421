"""Where the Dagster instance is, for commands that may do without Dagster, which takes seconds to import."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aml_images_dagster.settings import Settings


def instance_home(settings: Settings) -> Path:
    """The folder of this machine's Dagster instance, whether there is one or not."""
    return Path(os.environ.get("DAGSTER_HOME") or settings.home / "dagster").absolute()


def existing_home(settings: Settings) -> Path | None:
    """The same; None when no instance was made yet."""
    home = instance_home(settings)
    return home if (home / "dagster.yaml").exists() else None
