"""The limits of the pools: those of the settings, unless somebody has set another."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import dagster as dg
import pytest
from dagster._core.definitions.repository_definition import SINGLETON_REPOSITORY_NAME
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteRepositoryOrigin

from aml_images_dagster.cli.instance import CONFIGURATION
from aml_images_dagster.definitions import definitions
from aml_images_dagster.defs.keys import BUILD_JOB, LOCATION
from aml_images_dagster.defs.pinned_catalog import PinnedDefinitions
from aml_images_dagster.defs.pools import free_places_of_ended_runs, set_missing_limits
from aml_images_dagster.defs.run_state import waiting
from aml_images_dagster.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.image_repository import ImageRepository


@pytest.fixture
def instance(
    repository: ImageRepository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[dg.DagsterInstance]:
    """An instance that no command of ours has opened."""
    monkeypatch.setenv("AML_IMAGES_REPO", str(repository.root))
    home = tmp_path / "instance"
    home.mkdir()
    (home / "dagster.yaml").symlink_to(CONFIGURATION)
    monkeypatch.setenv("DAGSTER_HOME", str(home))
    with dg.DagsterInstance.get() as instance:
        yield instance


def limits(instance: dg.DagsterInstance) -> dict[str, int]:
    return {info.name: info.limit for info in instance.event_log_storage.get_pool_limits()}


def test_a_code_location_that_loads_gives_every_pool_its_limit(instance: dg.DagsterInstance) -> None:
    settings = load_settings(parallel=3)
    loaded = PinnedDefinitions(settings, partial(definitions, settings)).build_defs().get_repository_def()
    assert limits(instance) == {"docker_build": 3, "image_test": 3, "windows_build": 1, "operations": 4}
    used = {pool for asset in loaded.assets_defs_by_key.values() for pool in asset.node_def.pools}
    assert used <= limits(instance).keys()


@pytest.mark.parametrize(
    ("options", "limit", "steps"),
    [
        ({}, 3, 3),
        ({"parallel_tests": 2}, 2, 3),
        ({"parallel_tests": 5}, 5, 5),
        ({"profile": "azure"}, 8, 12),
        ({"profile": "azure", "parallel_tests": 20}, 20, 24),
    ],
)
def test_tests_that_run_elsewhere_take_no_place_of_a_build(
    instance: dg.DagsterInstance, options: dict[str, object], limit: int, steps: int
) -> None:
    settings = load_settings(parallel=3, **options)
    set_missing_limits(instance, settings)
    assert (limits(instance)["docker_build"], limits(instance)["image_test"]) == (3, limit)
    assert settings.steps_at_once == steps


def test_a_limit_that_somebody_has_set_stays(instance: dg.DagsterInstance) -> None:
    instance.event_log_storage.set_concurrency_slots("docker_build", 1)
    set_missing_limits(instance, load_settings(parallel=3))
    assert limits(instance)["docker_build"] == 1


def test_a_run_that_was_killed_keeps_no_place(instance: dg.DagsterInstance) -> None:
    set_missing_limits(instance, load_settings(parallel=3))
    instance.event_log_storage.claim_concurrency_slot("windows_build", "a run that is gone", "step")
    free_places_of_ended_runs(instance)
    assert instance.event_log_storage.get_concurrency_info("windows_build").active_run_ids == set()


def started(instance: dg.DagsterInstance, status: dg.DagsterRunStatus = dg.DagsterRunStatus.STARTED) -> str:
    location = RemoteRepositoryOrigin(RegisteredCodeLocationOrigin(LOCATION), SINGLETON_REPOSITORY_NAME)
    origin = location.get_job_origin(BUILD_JOB)
    return instance.add_run(dg.DagsterRun(BUILD_JOB, status=status, remote_job_origin=origin)).run_id


def test_a_build_waits_for_places_that_others_hold(instance: dg.DagsterInstance) -> None:
    set_missing_limits(instance, load_settings(parallel=2))
    claim = instance.event_log_storage.claim_concurrency_slot
    other, ours = started(instance), started(instance)
    assert waiting(instance, ours) == ""
    for step in ("one", "two"):
        claim("docker_build", other, step)
    claim("docker_build", ours, "three")
    assert waiting(instance, ours) == "waiting: 2 of 2 builds run"
    assert waiting(instance, other) == ""


def test_a_build_of_which_a_step_runs_does_not_wait(instance: dg.DagsterInstance) -> None:
    set_missing_limits(instance, load_settings(parallel=2))
    claim = instance.event_log_storage.claim_concurrency_slot
    other, ours = started(instance), started(instance)
    for run, step in ((other, "one"), (ours, "two"), (ours, "three")):
        claim("image_test", run, step)
    assert waiting(instance, ours) == ""


def test_a_build_waits_in_the_queue(instance: dg.DagsterInstance) -> None:
    for _ in range(3):
        started(instance)
    queued = started(instance, dg.DagsterRunStatus.QUEUED)
    assert waiting(instance, queued) == "waiting in the queue: 3 builds in progress"
    assert waiting(instance, started(instance, dg.DagsterRunStatus.FAILURE)) == ""
    assert waiting(instance, "unknown") == ""
