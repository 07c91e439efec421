"""The Dagster instance that the command line and the UI share."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg

from aml_images_dagster.defs.pools import free_places_of_ended_runs, set_missing_limits

if TYPE_CHECKING:
    from aml_images_dagster.settings import Settings

CONFIGURATION = Path(__file__).parents[2] / "deploy" / "dagster.yaml"
"""The configuration of every instance that has none of its own."""


def open_instance(settings: Settings) -> dg.DagsterInstance:
    """The Dagster instance of the settings, made when it is not there yet."""
    home = Path(os.environ.get("DAGSTER_HOME") or settings.home / "dagster").absolute()
    home.mkdir(parents=True, exist_ok=True)
    # Even when the instance is elsewhere: artifacts and logs come here, and are no change of the working tree.
    settings.home.mkdir(parents=True, exist_ok=True)
    ignore = settings.home / ".gitignore"
    if not ignore.exists():
        ignore.write_text("*\n")
    configuration = home / "dagster.yaml"
    if configuration.is_symlink() and not configuration.exists():  # it leads to a checkout that is gone
        configuration.unlink(missing_ok=True)
    if not configuration.exists():
        with suppress(FileExistsError):  # several processes may start at once
            configuration.symlink_to(CONFIGURATION)
    os.environ["DAGSTER_HOME"] = str(home)
    instance = dg.DagsterInstance.get()
    set_missing_limits(instance, settings)
    free_places_of_ended_runs(instance)
    return instance
