"""The Dagster instance that the command line and the UI share. `python -m` this module prepares it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg
import yaml

from aml_images_dagster.assets.keys import BUILD_POOL, TEST_POOL, WINDOWS_BUILD_POOL
from aml_images_dagster.settings import load_settings

if TYPE_CHECKING:
    from aml_images_dagster.settings import Settings


def open_instance(settings: Settings) -> dg.DagsterInstance:
    """The Dagster instance of the settings, made when it is not there yet."""
    home = Path(os.environ.get("DAGSTER_HOME") or settings.home / "dagster").absolute()
    home.mkdir(parents=True, exist_ok=True)
    ignore = settings.home / ".gitignore"
    if settings.home.is_dir() and not ignore.exists():
        ignore.write_text("*\n")
    configuration = home / "dagster.yaml"
    if not configuration.exists():
        configuration.write_text(yaml.safe_dump({"telemetry": {"enabled": False}, "nux": {"enabled": False}}))
    os.environ["DAGSTER_HOME"] = str(home)
    instance = dg.DagsterInstance.get()
    known = {info.name for info in instance.event_log_storage.get_pool_limits()}
    limits = {BUILD_POOL: settings.parallel, TEST_POOL: settings.parallel, WINDOWS_BUILD_POOL: 1}
    for pool, limit in limits.items():
        if pool not in known:  # a limit that somebody has set stays
            instance.event_log_storage.set_concurrency_slots(pool, limit)
    return instance


if __name__ == "__main__":
    open_instance(load_settings())
