"""The Dagster instance that the command line and the UI share."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg
import yaml
from upath import UPath

from aml_images_dagster.assets.keys import BUILD_POOL, TEST_POOL, WINDOWS_BUILD_POOL
from aml_images_dagster.builds.artifacts import write_atomically

if TYPE_CHECKING:
    from aml_images_dagster.settings import Settings


_CONFIGURATION = {
    "telemetry": {"enabled": False},
    "nux": {"enabled": False},
    # A run whose process is killed is noticed within seconds, and its places in the pools become free.
    "run_monitoring": {"enabled": True, "poll_interval_seconds": 10, "free_slots_after_run_end_seconds": 30},
}
_PARTS = "aml_images_dagster.instance"


def open_instance(settings: Settings) -> dg.DagsterInstance:
    """The Dagster instance of the settings, made when it is not there yet."""
    home = Path(os.environ.get("DAGSTER_HOME") or settings.home / "dagster").absolute()
    home.mkdir(parents=True, exist_ok=True)
    # Even when the instance is elsewhere: artifacts and logs come here, and are no change of the working tree.
    settings.home.mkdir(parents=True, exist_ok=True)
    ignore = settings.home / ".gitignore"
    if not ignore.exists():
        ignore.write_text("*\n")
    configuration = UPath(home) / "dagster.yaml"
    if not configuration.exists():
        # Of several processes that start at once, none may read half a file.
        write_atomically(configuration, yaml.safe_dump(_CONFIGURATION | _stores(home)).encode())
    os.environ["DAGSTER_HOME"] = str(home)
    instance = dg.DagsterInstance.get()
    known = {info.name for info in instance.event_log_storage.get_pool_limits()}
    limits = {BUILD_POOL: settings.parallel, TEST_POOL: settings.parallel, WINDOWS_BUILD_POOL: 1}
    for pool, limit in limits.items():
        if pool not in known:  # a limit that somebody has set stays
            instance.event_log_storage.set_concurrency_slots(pool, limit)
        # A run that was killed keeps its places in a pool, and later builds would wait for them.
        for run_id in instance.event_log_storage.get_concurrency_info(pool).active_run_ids:
            run = instance.get_run_by_id(run_id)
            if run is None or run.is_finished:
                instance.event_log_storage.free_concurrency_slots_for_run(run_id)
    return instance


def _stores(home: Path) -> dict[str, object]:
    """Where runs, events and logs of steps are kept, and by which classes."""
    storage = {"module": f"{_PARTS}.storage", "class": "PooledSqliteStorage", "config": {"base_dir": str(home)}}
    logs = {"base_dir": str(home / "storage")}
    return {
        "storage": {"custom": storage},
        "compute_logs": {"module": f"{_PARTS}.compute_logs", "class": "FileComputeLogManager", "config": logs},
    }
