"""The pools: how many steps of a kind run at once, over all runs of an instance."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import dagster as dg

    from aml_images_dagster.settings import Settings

BUILD_POOL = "docker_build"
WINDOWS_BUILD_POOL = "windows_build"
TEST_POOL = "image_test"
OPERATIONS_POOL = "operations"
"""Of what cleans up, cancels and reports: it waits for no build."""


def set_missing_limits(instance: dg.DagsterInstance, settings: Settings) -> None:
    """Give each pool its limit, unless it has one.

    Dagster has no key in dagster.yaml for the limit of a pool: it is set by the instance.
    """
    known = {info.name for info in instance.event_log_storage.get_pool_limits()}
    limits = {
        BUILD_POOL: settings.parallel,
        TEST_POOL: settings.tested_at_once,
        WINDOWS_BUILD_POOL: 1,
        OPERATIONS_POOL: 4,
    }
    for pool, limit in limits.items():
        if pool not in known:
            instance.event_log_storage.set_concurrency_slots(pool, limit)


def free_places_of_ended_runs(instance: dg.DagsterInstance) -> None:
    """Free the slots that killed runs keep: later builds would wait for them."""
    for info in instance.event_log_storage.get_pool_limits():
        for run_id in instance.event_log_storage.get_concurrency_info(info.name).active_run_ids:
            run = instance.get_run_by_id(run_id)
            if run is None or run.is_finished:
                instance.event_log_storage.free_concurrency_slots_for_run(run_id)
